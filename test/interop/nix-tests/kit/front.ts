import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { startNarswarm } from '../../../e2e/kit/narswarm.ts'
import type { Stage } from '../../../e2e/kit/stage.ts'

/** A narswarm in front of a cache folder of a test, at the same address for the whole of it. */
export interface Front {
  readonly url: string
  /** Bytes of NARs that came through it from the folder. */
  bytes(): Promise<number>
  /** A new one in its place, which remembers nothing. @param keys that it trusts beside its own */
  forgetAll(keys: readonly string[]): Promise<void>
  /** The same one, started anew: it knows the narinfos that it gave, but has lost its NARs and what it thought of its sources. */
  forgetNars(): Promise<void>
  /** Whether its log has a line like this. */
  told(pattern: RegExp): boolean
}

export async function startFront(
  stage: Stage,
  { folder, storeDir, publicKey }: { folder: string; storeDir: string; publicKey: string },
): Promise<Front> {
  const name = `narswarm-${folder.slice(folder.lastIndexOf('/') + 1)}`
  // Without the root folder it would look into the store of this machine.
  const settings = { store_dir: storeDir, store_root: join(stage.dir, 'no-store') }
  const trusted = (keys: readonly string[]): object => ({ trust: { keys: [publicKey, ...keys] } })
  const node = await startNarswarm(stage, name, {
    ...settings,
    ...trusted([]),
    upstreams: [`file://${folder}`],
  })
  const { url } = (await node.status()).cache
  const again = { cache: { listen: new URL(url).host } }
  let now: Record<string, unknown> = again
  let before = 0

  const served = async (): Promise<number> =>
    (await node.status()).sources.reduce((sum, { bytes }) => sum + bytes, 0)
  const restart = async (lose: string): Promise<void> => {
    before += await served()
    await node.stop()
    await rm(lose, { recursive: true, force: true })
    await node.start(now)
  }
  return {
    url,
    bytes: async () => before + (await served()),
    async forgetAll(keys) {
      now = { ...again, ...trusted(keys) }
      await restart(node.stateDir)
    },
    forgetNars: () => restart(join(node.stateDir, 'spool')),
    told: (pattern) => node.log().some((line) => pattern.test(line)),
  }
}
