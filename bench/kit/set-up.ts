/** A publishing narswarm with one NAR, as a user would run it, and what a client needs to know of it. */
import { mkdir, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { writeFolderCache } from '../../src/cli/demo/folder-cache.ts'
import { formatPublicKey, generateSecretKey } from '../../src/nix/key.ts'
import type { BenchPackage } from './nar.ts'
import { startNarswarm } from './narswarm.ts'

export interface SetUp {
  readonly dir: string
  /** The NAR as a plain file. */
  readonly narFile: string
  /** The store path as it would lie in a store. */
  readonly path: string
  /** With its CID line. */
  readonly narInfo: string
  readonly key: string
  readonly gateway: string
  readonly peer: string
  /** Process of the publishing narswarm. */
  readonly pid: number
  /** A new empty folder. */
  fresh(): Promise<string>
  stop(): Promise<void>
}

const FEED = 'bench.invalid/main'

export async function setUp(
  dir: string,
  make: (dir: string) => Promise<BenchPackage>,
  randomBytes: (n: number) => Uint8Array,
): Promise<SetUp> {
  const signal = AbortSignal.timeout(600_000)
  const key = generateSecretKey('bench-1', randomBytes)
  const publicKey = formatPublicKey(key.publicKey)
  const one = await make(join(dir, 'packages'))
  const cache = join(dir, 'cache')
  await writeFolderCache(cache, [one], { key, storeDir: '/nix/store' }, { signal })
  const node = await startNarswarm(join(dir, 'publisher'), {
    profile: 'pool',
    peer: { listen: '127.0.0.1:0' },
    swarm: { listen: ['/ip4/127.0.0.1/tcp/0'] },
    trust: { keys: [publicKey] },
    share: { keys: [publicKey] },
  })
  await node.operations.createFeed(FEED, { signal })
  let cid = ''
  const request = { feed: FEED, dryRun: false, from: cache, paths: [] }
  for await (const event of node.operations.publish(request, { signal })) {
    if (event.kind === 'item') cid = event.cid ?? ''
  }
  const { peer, swarm } = await node.status()
  const [hashPart] = one.storePath.split('-')
  const [narName = ''] = await readdir(join(cache, 'nar'))
  let folders = 0
  return {
    dir,
    narFile: join(cache, 'nar', narName),
    path: one.path,
    narInfo: `${await readFile(join(cache, `${hashPart}.narinfo`), 'utf8')}CID: ${cid}\n`,
    key: publicKey,
    gateway: peer?.url ?? '',
    peer: swarm?.addrs[0] ?? '',
    pid: node.pid,
    async fresh() {
      const folder = join(dir, `run-${folders++}`)
      await mkdir(folder, { recursive: true })
      return folder
    },
    stop: () => node.stop(),
  }
}
