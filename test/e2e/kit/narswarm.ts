import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { stringify } from 'smol-toml'
import { createAdminClient } from '../../../src/cli/admin-client.ts'
import type { PeersReport } from '../../../src/operations/peers.ts'
import type { StatusDocument } from '../../../src/operations/status.ts'
import { here } from './place.ts'
import type { Place } from './place.ts'
import type { Stage } from './stage.ts'

/** A narswarm process, driven as a user drives it: a configuration file, `serve`, the other commands beside it. */
export interface Narswarm {
  readonly stateDir: string
  status(): Promise<StatusDocument>
  /** As `peer list --json` has it. */
  peers(): Promise<PeersReport>
  /** Waits until the status is as wanted. */
  until(wanted: (status: StatusDocument) => boolean): Promise<StatusDocument>
  /** Runs a command against it. @returns what it printed */
  cli(...args: string[]): Promise<string>
  /** Lines of the log so far, all starts together. */
  log(): string[]
  /** SIGTERM, and a clean end. */
  stop(): Promise<void>
  /** SIGKILL: as a power cut, but for the disk's own cache. */
  kill(): Promise<void>
  /** After `kill` or `stop`: the same state again. */
  start(settings?: Record<string, unknown>): Promise<void>
}

const MAIN = fileURLToPath(new URL('../../../src/main.ts', import.meta.url))
const UNTIL_DEADLINE_MS = 30_000

export interface Surroundings {
  readonly place?: Place
  /** Text of the machine's nix.conf. */
  readonly nixConf?: string
}

/** Neither this machine's nix.conf nor the user's configuration reaches it. */
export async function startNarswarm(
  stage: Stage,
  name: string,
  settings: Record<string, unknown>,
  { place = here, nixConf }: Surroundings = {},
): Promise<Narswarm> {
  const dir = join(stage.dir, name)
  const stateDir = join(dir, 'state')
  const configFile = join(dir, 'config.toml')
  const confDir = join(dir, 'nix')
  await mkdir(confDir, { recursive: true })
  if (nixConf !== undefined) await writeFile(join(confDir, 'nix.conf'), nixConf)
  const env = {
    PATH: process.env['PATH'] ?? '',
    HOME: join(dir, 'home'),
    NIX_CONF_DIR: confDir,
    NIX_USER_CONF_FILES: '',
  }
  const { signal } = stage
  const admin = createAdminClient(join(stateDir, 'admin.sock'))
  let told = ''
  let running: { process: ReturnType<typeof spawn>; exited: Promise<unknown> } | undefined
  stage.keepLog(`narswarm ${name}`, () => told)

  const start = async (changes: Record<string, unknown> = {}): Promise<void> => {
    const config = {
      cache: { listen: '127.0.0.1:0' },
      upstreams: [],
      ...settings,
      ...changes,
      state_dir: stateDir,
    }
    await writeFile(configFile, stringify(config))
    const child = spawn(...place(process.execPath, [MAIN, 'serve', '--config', configFile]), {
      env,
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => (told += text))
    running = { process: child, exited: once(child, 'close') }
    // It answers the command line a moment before it tells the port that was chosen.
    await until(({ cache }) => !cache.url.endsWith(':0'))
  }

  const until: Narswarm['until'] = async (wanted) => {
    let last: unknown
    for (const deadline = Date.now() + UNTIL_DEADLINE_MS; Date.now() < deadline; await sleep(50)) {
      if (running?.process.exitCode !== null) throw new Error(`narswarm ${name} ended: ${told}`)
      try {
        const status = await admin.status({ signal })
        if (wanted(status)) return status
        last = status
      } catch (error) {
        signal.throwIfAborted()
        last = error
      }
    }
    throw new Error(`narswarm ${name} is not as wanted: ${told}`, { cause: last })
  }

  const end = async (how: NodeJS.Signals): Promise<number | null> => {
    if (running === undefined) return 0
    const { process: child, exited } = running
    running = undefined
    child.kill(how)
    await exited
    return child.exitCode
  }

  await start()
  stage.onEnd(async () => {
    await end('SIGKILL')
  })
  return {
    stateDir,
    status: () => admin.status({ signal }),
    peers: () => admin.peers({ signal }),
    until,
    async cli(...args) {
      const line = place(process.execPath, [MAIN, ...args, '--config', configFile])
      const { stdout } = await promisify(execFile)(...line, { env, signal })
      return stdout
    },
    log: () => told.split('\n'),
    async stop() {
      const code = await end('SIGTERM')
      if (code !== 0) throw new Error(`narswarm ${name} ended with ${code}: ${told}`)
    },
    async kill() {
      await end('SIGKILL')
    },
    start,
  }
}

/** Of one that shares all that the keys of `publicKeys` signed, on loopback; the default keys when there are none. */
export function sharing(publicKeys?: readonly string[]): Record<string, unknown> {
  return {
    profile: 'pool',
    peer: { listen: '127.0.0.1:0' },
    swarm: { listen: ['/ip4/127.0.0.1/tcp/0'] },
    ...(publicKeys === undefined ? {} : { trust: { keys: publicKeys }, share: { keys: publicKeys } }),
  }
}

export function startPublisher(
  stage: Stage,
  name: string,
  settings: Record<string, unknown>,
  publicKeys?: readonly string[],
): Promise<Narswarm> {
  return startNarswarm(stage, name, { ...sharing(publicKeys), ...settings })
}

/** Where others reach it. */
export async function addressesOf(node: Narswarm): Promise<{ peerUrl: string; addrs: readonly string[] }> {
  const { peer, swarm } = await node.status()
  if (peer === undefined || swarm === undefined) throw new Error('it shares nothing')
  return { peerUrl: peer.url, addrs: swarm.addrs }
}

/** The feed's line in the configuration of those who follow it. */
export interface FollowedFeed {
  readonly name: string
  readonly root_key: string
  readonly sources: readonly string[]
}

/** Makes a feed at `node`, which needs a peer listener, and publishes into it. */
export async function publishFeed(
  node: Narswarm,
  name: string,
  ...what: string[]
): Promise<{ feed: FollowedFeed; size: number; cids: Map<string, string> }> {
  const created = JSON.parse(await node.cli('feed', 'create', name, '--json')) as { root_key: string }
  const lines = (await node.cli('publish', '--feed', name, '--json', ...what)).trim().split('\n')
  const events = lines.map((line) => JSON.parse(line) as { path?: string; cid?: string; size?: number })
  const { peerUrl } = await addressesOf(node)
  return {
    feed: { name, root_key: created.root_key, sources: [`${peerUrl}/feed/${name}`] },
    size: events.at(-1)?.size ?? 0,
    cids: new Map(events.flatMap(({ path, cid }) => (path && cid ? [[path, cid]] : []))),
  }
}

/** Whether all followed feeds are here. */
export function hasFeeds(...sizes: number[]): (status: StatusDocument) => boolean {
  return ({ feeds }) => sizes.every((size, at) => feeds.followed[at]?.size === size)
}
