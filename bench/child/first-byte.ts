/**
 * When the first byte of a NAR from an upstream is there: plainly, and where an older path is guessed from first that gives
 * another NAR, in one of several ways. By the engine that `serve` uses.
 */
import { join } from 'node:path'
import type { Log } from '../../src/log.ts'
import { parseNarHash } from '../../src/nix/hash.ts'
import { parsePublicKey, trustedKeys } from '../../src/nix/key.ts'
import { layoutNar } from '../../src/nix/nar-layout.ts'
import { hashPartOf } from '../../src/nix/store-path.ts'
import { openLeafIndex } from '../../src/spool/leaf-index.ts'
import { createLocalBlocks } from '../../src/spool/local-blocks.ts'
import { openSpool } from '../../src/spool/spool.ts'
import { openDatabase } from '../../src/state/database.ts'
import { StorePathNotValidError } from '../../src/store/errors.ts'
import type { LocalStore } from '../../src/store/local-store.ts'
import { readNarInto } from '../../src/store/nar-stream.ts'
import { walkStorePath } from '../../src/store/walk.ts'
import { createNarInfoTable } from '../../src/substitute/narinfo-table.ts'
import { createPolicy } from '../../src/substitute/policy.ts'
import { createResolver } from '../../src/substitute/resolve.ts'
import type { Rewriting } from '../../src/substitute/rewriting.ts'
import { createScores } from '../../src/substitute/scores.ts'
import { createTransfers } from '../../src/substitute/transfers.ts'
import { createHosts } from '../../src/upstream/host.ts'
import { createUpstream } from '../../src/upstream/upstream.ts'
import { createXzThreads } from '../../src/upstream/xz-threads.ts'
import { rebuildPairs } from '../kit/rebuild.ts'
import { rewritingOfRebuild } from '../kit/rebuild-rewriting.ts'

const { dir, older, url, key, pairs, rounds } = JSON.parse(process.argv[2] ?? '{}') as {
  dir: string
  /** The tree of the older path, whose NAR has the size of the wanted one. */
  older: string
  /** A binary cache that has the wanted one, the first of so many pairs. */
  url: string
  key: string
  pairs: number
  rounds: number
}
const storeDir = '/nix/store'
const quiet = (): void => {}
const log: Log = { debug: quiet, info: quiet, warn: quiet, error: quiet }
const clock = (): number => performance.now()
const signal = AbortSignal.timeout(600_000)
const layout = { ...layoutNar(await walkStorePath(older, { signal })), frameMark: 0 }
const { narSize } = layout
const rewrites = rebuildPairs(pairs)
const [itself] = rewrites

type Read = LocalStore['readNarInto']
const intact: Read = (_, range, target) => readNarInto(layout, range, target)
const HALF = narSize / 2
/** Each for another older path that does not give the wanted NAR. */
const READS: Record<string, Read> = {
  changed: intact,
  collected: (path, range, target, options) => {
    if (range.start > HALF) throw new StorePathNotValidError(path)
    return intact(path, range, target, options)
  },
  'hanging from the start': () => new Promise(() => {}),
  'hanging half-way': (path, range, target, options) =>
    range.start > HALF ? new Promise(() => {}) : intact(path, range, target, options),
}

const rewritingOf = (read: Read): Rewriting => rewritingOfRebuild(rewrites, { narSize, read })

const xzThreads = createXzThreads()
let folders = 0

/** @returns milliseconds from the request to the first byte, of an engine of its own */
const firstByte = async (rewriting?: Rewriting): Promise<number> => {
  const own = join(dir, `node-${folders++}`)
  const db = openDatabase(`${own}.sqlite`)
  const upstream = createUpstream(
    { url: new URL(url), storeDir },
    { log, hosts: createHosts({ log, clock, random: Math.random }), xzThreads },
  )
  const resolver = createResolver({
    policy: createPolicy({ keys: trustedKeys([parsePublicKey(key)]), threshold: 1, storeDir }),
    table: createNarInfoTable({ db, clock: Date.now, log }, { storeDir }),
    sources: [upstream],
    log,
  })
  const spool = await openSpool({ db, dir: own, log, clock: Date.now })
  const index = openLeafIndex(db)
  const transfers = createTransfers({
    resolver,
    spool,
    index,
    blocks: createLocalBlocks({ index, spool, log }),
    store: undefined,
    blockSources: () => [],
    rewriting,
    scores: createScores({ clock }),
    shareable: () => false,
    badRoot: quiet,
    clock,
    log,
  })
  const info = await resolver.byHashPart(hashPartOf(itself.to), { signal })
  if (info === undefined) throw new Error('the narinfo of the bench is not believed')
  const begun = clock()
  const transfer = await transfers.open(info, undefined, { signal })
  const ms = clock() - begun
  for await (const _ of transfer.read({ start: 0, end: narSize }, { signal })) {
    // To its end, so that the next one has the machine for itself.
  }
  await transfer.done
  await spool.remove(info.narHash)
  transfers.close()
  await upstream.close()
  db.close()
  return ms
}

/** Reading and hashing the older path, by itself. */
const hashing = async (): Promise<number> => {
  const info = {
    storePath: itself.to,
    narHash: parseNarHash(`sha256:${'1'.repeat(52)}`),
    narSize,
    references: rewrites.map(({ to }) => to),
  }
  const begun = clock()
  if ((await rewritingOf(intact).guess(info)?.prove({ signal })) !== undefined) throw new Error('a hash met')
  return clock() - begun
}

const told = { hashing: [] as number[], plain: [] as number[] }
const guessed = new Map<string, number[]>(Object.keys(READS).map((kind) => [kind, []]))
// In turn, since the machine's speed drifts; the first round warms up and is not counted.
for (let round = 0; round <= rounds; round++) {
  const counted = (to: number[], ms: number): void => {
    if (round > 0) to.push(ms)
  }
  counted(told.hashing, await hashing())
  counted(told.plain, await firstByte())
  for (const [kind, times] of guessed) counted(times, await firstByte(rewritingOf(READS[kind] ?? intact)))
}
process.stdout.write(`${JSON.stringify({ ...told, guessed: Object.fromEntries(guessed) })}\n`)
process.exit(0)
