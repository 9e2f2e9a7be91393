/**
 * A real Kubo: the `ipfs` on PATH, with a repository of its own and nobody to talk to but who is named to it.
 */
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createReadStream } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { isLoopbackAddress } from '../../../src/config/ip-address.ts'
import { workDir } from './cleanup.ts'
import { bounded, run } from './command.ts'
import type { Input } from './command.ts'

const START_DEADLINE_MS = 30_000

/** For a test's `skip` option. */
export function skipWithoutKubo(): string | false {
  return spawnSync('ipfs', ['version'], { stdio: 'ignore' }).status === 0
    ? false
    : 'no ipfs on PATH: put a Kubo there (https://docs.ipfs.tech/install/command-line/)'
}

export interface Kubo {
  /** Ends in `/p2p/<peer id>`. */
  readonly addr: string
  readonly gatewayUrl: string
  /** One `ipfs` command, asked of the daemon. */
  ipfs(args: readonly string[], input?: Input): Promise<string>
  /** Hex, of what the command writes to stdout. */
  sha256(args: readonly string[]): Promise<string>
}

/** Stopped and removed by `cleanup`. */
export async function startKubo(cleanup: AsyncDisposableStack): Promise<Kubo> {
  const home = await workDir(cleanup)
  const repo = join(home, 'repo')
  await mkdir(repo)
  const env = { HOME: home, IPFS_PATH: repo, IPFS_TELEMETRY: 'off' }
  const ipfs = (args: readonly string[], input?: Input): Promise<string> =>
    run('ipfs', args, { env, ...(input === undefined ? {} : { input }) })

  await ipfs(['init', '--profile=test,unixfs-v1-2025'])
  const path = join(repo, 'config')
  const initial = JSON.parse(await readFile(path, 'utf8')) as Settings
  await writeFile(path, JSON.stringify(merged(initial, SETTINGS)))
  const written: unknown = JSON.parse(await readFile(path, 'utf8'))
  assert.deepEqual(outwards(written), [], 'the configuration of Kubo names this machine alone')

  const [program, ...args] = bounded('ipfs', ['daemon'])
  const daemon = spawn(program, args, { env: { ...process.env, ...env } })
  let told = ''
  for (const stream of [daemon.stdout, daemon.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      told = (told + text).slice(-4000)
    })
  }
  const exited = once(daemon, 'exit')
  cleanup.defer(async () => {
    daemon.kill('SIGTERM')
    await exited
  })
  for (const deadline = Date.now() + START_DEADLINE_MS; !told.includes('Daemon is ready'); await sleep(50)) {
    assert.ok(daemon.exitCode === null && Date.now() < deadline, `Kubo did not start: ${told}`)
  }

  const listening = (await ipfs(['swarm', 'addrs', 'listen'])).split('\n')
  assert.deepEqual(outwards(listening), [])
  const id = await ipfs(['id', '--format=<id>'])
  return {
    addr: `${listening[0] ?? ''}/p2p/${id}`,
    // The daemon writes down where it is: its ports are ephemeral.
    gatewayUrl: (await readFile(join(repo, 'gateway'), 'utf8')).trim(),
    ipfs,
    async sha256(args) {
      const hash = createHash('sha256')
      await run('ipfs', args, { env, onBytes: (bytes) => hash.update(bytes) })
      return hash.digest('hex')
    },
  }
}

/** As `ipfs add` says without a daemon or a profile, by the flags of IPIP-499's `unixfs-v1-2025`. */
export async function kuboCidOf(path: string, cleanup: AsyncDisposableStack): Promise<string> {
  const home = await workDir(cleanup)
  const flags = ['--cid-version=1', '--raw-leaves', '--chunker=size-1048576', '--max-file-links=1024']
  const env = { HOME: home, IPFS_PATH: join(home, 'repo'), IPFS_TELEMETRY: 'off' }
  await run('ipfs', ['init', '--profile=test'], { env })
  return run('ipfs', ['add', '--only-hash', '--quieter', ...flags], { env, input: createReadStream(path) })
}

interface Settings {
  [name: string]: Settings | readonly string[] | string | number | boolean | null
}

const LOOPBACK = '/ip4/127.0.0.1/tcp/0'
/** What a Kubo does by itself is turned off; most is by the profile `test` too, but not in every version. */
const SETTINGS: Settings = {
  Addresses: { Swarm: [LOOPBACK], API: LOOPBACK, Gateway: LOOPBACK },
  AutoConf: { Enabled: false },
  AutoNAT: { ServiceMode: 'disabled' },
  AutoTLS: { Enabled: false },
  Bootstrap: [],
  DNS: { Resolvers: {} },
  Discovery: { MDNS: { Enabled: false } },
  // It gives what Kubo holds, as a pinning service's does.
  Gateway: { NoFetch: true },
  HTTPRetrieval: { Enabled: false },
  Ipns: { DelegatedPublishers: [] },
  Plugins: { Plugins: { telemetry: { Disabled: true } } },
  Provide: { Enabled: false },
  Routing: { Type: 'none', DelegatedRouters: [] },
  Swarm: {
    DisableNatPortMap: true,
    EnableHolePunching: false,
    RelayClient: { Enabled: false },
    RelayService: { Enabled: false },
  },
}

function merged(base: Settings, over: Settings): Settings {
  const all = { ...base }
  for (const [name, value] of Object.entries(over)) {
    const old = all[name]
    all[name] = isSettings(old) && isSettings(value) ? merged(old, value) : value
  }
  return all
}

function isSettings(value: Settings[string] | undefined): value is Settings {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Every text in it that leads to another machine. */
function outwards(value: unknown): string[] {
  if (typeof value === 'string') {
    const [, kind, host = ''] = /^\/(ip4|ip6|dns\w*)\/([^/]+)/.exec(value) ?? []
    const leaves = kind === undefined ? value === 'auto' || value.includes('://') : !isLoopbackAddress(host)
    return leaves ? [value] : []
  }
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(outwards) : []
}
