/** A whole world for `runCli`: streams that remember, a node in memory, signals by call. */
import { Readable } from 'node:stream'
import type { TestContext } from 'node:test'
import { loadConfig } from '../../src/config/load.ts'
import type { CliDeps, SignalName } from '../../src/cli/deps.ts'
import type { NarswarmNode } from '../../src/cli/node.ts'
import { runCli } from '../../src/cli/program.ts'
import { createAdminApp } from '../../src/http/admin-app.ts'
import { listen } from '../../src/http/server.ts'
import type { Listener } from '../../src/http/server.ts'
import type { Operations } from '../../src/operations/operations.ts'
import type { StatusDocument } from '../../src/operations/status.ts'
import { RequestError } from '../../src/operations/operations.ts'
import { recordingLog } from '../kit/log.ts'
import type { LogLine } from '../kit/log.ts'

export const CID = 'bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku'
export const NAR_HASH = '1b9p07z77phvv2hf6gm9f28syp39f1ag'.padEnd(52, '0')
export const STORE_PATH = '/nix/store/7c5zrpajq5ydlg2zbbnfs1l4lwbxsdqq-hello-2.12'

export const STATUS: StatusDocument = {
  version: 1,
  narswarm: '0.0.0-test',
  profile: 'pool',
  started: '2026-01-02T03:04:05Z',
  cache: { url: 'http://127.0.0.1:6277', priority: 30 },
  peer: { url: 'http://127.0.0.1:6278' },
  swarm: { peer_id: '12D3KooWPeer', addrs: ['/ip4/127.0.0.1/tcp/6279/p2p/12D3KooWPeer'] },
  trusted_keys: ['cache.nixos.org-1'],
  share_keys: ['cache.nixos.org-1'],
  upstreams: [
    { url: 'https://cache.nixos.org/', from: 'nix.conf', state: 'ok', priority: 40 },
    {
      url: 'https://down.example/',
      from: 'nix.conf',
      state: 'resting',
      until: '2026-01-02T03:05:05Z',
      last_error: 'ECONNREFUSED',
    },
    { url: 'https://guix.example/', from: 'nix.conf', state: 'unfit', last_error: 'for another store' },
  ],
  peers: [],
  spool: {
    nars: 1,
    bytes: 1_234_567,
    pinned_bytes: 0,
    parts: 2,
    part_bytes: 4_096,
    max_bytes: 21_474_836_480,
    min_free_bytes: 4_294_967_296,
    free_bytes: 53_687_091_200,
    evicted: 3,
    evicted_bytes: 1_048_576,
  },
  uploads: {
    bytes: 3_145_728,
    max_bytes_per_second: 20_971_520,
    peers: [
      { address: '10.0.0.2', bytes: 3_000_000, requests: 40, refused: 0 },
      { address: '10.0.0.3', bytes: 0, requests: 9, refused: 2 },
    ],
  },
  store: { indexed: 40, indexed_bytes: 1_048_576, to_go: 2, to_go_bytes: 3_145_728 },
  transfers: { running: 0 },
  nars: [
    { source: 'rewritten', nars: 3, bytes: 12 * 2 ** 20 },
    { source: 'upstream', nars: 1, bytes: 10 * 2 ** 20 },
  ],
  fetched: {
    bytes: 60 * 2 ** 20,
    from_upstreams: 10 * 2 ** 20,
    saved: 50 * 2 ** 20,
    made_here: 12 * 2 ** 20,
    from_neighbours: 50 * 2 ** 20,
    neighbours: [{ id: 'neighbour:12D3KooWPeer', bytes: 50 * 2 ** 20 }],
  },
  sources: [
    { id: 'upstream:https://cache.nixos.org', bytes: 0, faults: 2, lies: 0, out: true },
    { id: 'http:http://10.0.0.2:6278', bytes: 52_428_800, average_ms: 12.4, faults: 0, lies: 0, out: false },
  ],
  blocks: {
    got: { bytes: 50 * 2 ** 20, wire_bytes: 15 * 2 ** 20 },
    given: { bytes: 2 ** 20, wire_bytes: 2 ** 20 },
  },
  audit: {
    max_bytes_per_day: 0,
    bytes_today: 0,
    right: 0,
    wrong: 0,
    unavailable: 0,
    untrusted: 0,
    bad_count: 0,
    bad: [],
  },
  feeds: { published: [], followed: [] },
}

/** Every operation refuses, but those given. */
export function fakeOperations(some: Partial<Operations> = {}): Operations {
  const refuse = (): Promise<never> => Promise.reject(new RequestError('not in this test'))
  return {
    status: () => Promise.resolve(STATUS),
    feeds: () => Promise.resolve(STATUS.feeds),
    createFeed: refuse,
    async *publish() {
      yield await refuse()
    },
    verify: refuse,
    explain: refuse,
    verifySpool: refuse,
    gc: refuse,
    peers: refuse,
    changePeer: refuse,
    async *verifyFeed() {
      yield await refuse()
    },
    ...some,
  }
}

export interface World {
  readonly deps: CliDeps
  /** Everything written so far. */
  stdout(): string
  stderr(): string
  /** Of the node that was opened in this process. */
  readonly node: { opened: number; closed: number[] }
  signal(name: SignalName): void
  readonly exits: number[]
  run(...argv: string[]): Promise<number>
}

export interface WorldOptions {
  stateDir: string
  operations?: Operations
  tty?: boolean
  stdin?: Readable
  env?: NodeJS.ProcessEnv
  files?: Record<string, string>
  serve?: NarswarmNode['serve']
}

export function world(options: WorldOptions): World {
  const written = { stdout: '', stderr: '' }
  const node = { opened: 0, closed: [] as number[] }
  const listeners = new Set<(name: SignalName) => void>()
  const exits: number[] = []
  const { tty = false, stateDir, files = {} } = options
  const env = { NARSWARM_STATE_DIR: stateDir, ...options.env }
  const stream = (to: 'stdout' | 'stderr') => ({
    isTTY: tty,
    columns: 100,
    write: (text: string) => {
      written[to] += text
    },
  })

  const deps: CliDeps = {
    env,
    cwd: '/work',
    stdin: options.stdin ?? Readable.from([]),
    stdout: stream('stdout'),
    stderr: stream('stderr'),
    version: '0.0.0-test',
    command: ['node', 'main.ts'],
    randomBytes: (n) => new Uint8Array(n).fill(7),
    loadConfig: (chosen) => loadConfig({ ...chosen, env, read: (path) => files[path], isRoot: false }),
    createLog: () => recordingLog(),
    async openNode() {
      node.opened += 1
      return {
        operations: options.operations ?? fakeOperations(),
        serve: options.serve ?? (() => Promise.resolve({ cacheUrl: 'http://127.0.0.1:6277' })),
        async close(graceMs) {
          node.closed.push(graceMs)
        },
      }
    },
    onSignal(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    exit: (code) => void exits.push(code),
  }
  return {
    deps,
    node,
    exits,
    stdout: () => written.stdout,
    stderr: () => written.stderr,
    signal: (name) => {
      for (const listener of listeners) listener(name)
    },
    run: (...argv) => runCli(argv, deps),
  }
}

/** A running narswarm, as far as its admin socket goes. */
export async function serveAdmin(
  t: TestContext,
  socketPath: string,
  operations: Operations,
): Promise<{ listener: Listener; lines: LogLine[] }> {
  const log = recordingLog()
  const listener = await listen(createAdminApp({ operations, log }), { path: socketPath }, { log })
  t.after(() => listener.close(0))
  return { listener, lines: log.lines }
}
