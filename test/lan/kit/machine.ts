import assert from 'node:assert/strict'
import { startNarswarm } from '../../e2e/kit/narswarm.ts'
import type { Narswarm } from '../../e2e/kit/narswarm.ts'
import { openNixMachine } from '../../e2e/kit/nix-machine.ts'
import type { NixMachine } from '../../e2e/kit/nix-machine.ts'
import type { Stage } from '../../e2e/kit/stage.ts'
import type { Host } from './lan.ts'

/** A host with a Nix of its own and a narswarm, which is the only substituter that this Nix has. */
export interface Machine extends NixMachine {
  readonly host: Host
  readonly narswarm: Narswarm
  /** Where its own Nix asks. */
  readonly url: string
  /** Where others ask. */
  readonly peerUrl: string
  /** With closure, from its narswarm or from `url`. Afterwards the store holds what it should, hashed anew. */
  install(paths: readonly string[], url?: string): Promise<void>
}

interface MachineSettings {
  /** The one that this machine's Nix trusts, and that signed what it shares. */
  readonly publicKey: string
  /** Beside the profile. */
  readonly settings?: Record<string, unknown>
  /** Of nix.conf: where narswarm finds its upstreams. */
  readonly substituters?: readonly string[]
  /** A store that has something already. */
  readonly nix?: NixMachine
}

const CACHE_PORT = 6277
const PEER_PORT = 6278

/** All is where a user finds it: the ports, the nix.conf. Only what must be another for a test is in the configuration. */
export async function openMachine(
  stage: Stage,
  host: Host,
  { publicKey, settings = {}, substituters = [], nix }: MachineSettings,
): Promise<Machine> {
  const machine = nix ?? (await openNixMachine(stage, `nix-${host.name}`, host.place))
  const nixConf = `substituters = ${substituters.join(' ')}\ntrusted-public-keys = ${publicKey}\n`
  const narswarm = await startNarswarm(
    stage,
    host.name,
    {
      profile: 'lan',
      store_root: machine.root,
      share: { keys: [publicKey] },
      cache: undefined,
      upstreams: undefined,
      ...settings,
    },
    { place: host.place, nixConf },
  )
  const url = `http://127.0.0.1:${CACHE_PORT}`
  return {
    ...machine,
    host,
    narswarm,
    url,
    peerUrl: `http://${host.address}:${PEER_PORT}`,
    async install(paths, from = url) {
      const { ok, stderr } = await machine.realise(paths, { url: from, publicKey })
      assert.ok(ok, stderr)
      await machine.verify()
    },
  }
}

/** As one that has been on for a while: the blocks of what it has are found by CID. */
export async function untilIndexed({ narswarm }: Pick<Machine, 'narswarm'>): Promise<void> {
  await narswarm.until(({ store }) => store?.to_go === 0)
}
