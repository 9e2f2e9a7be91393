import { mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { createFeed, openPublisher } from '../../src/feed/publisher.ts'
import { createPublishedFiles } from '../../src/feed/feed-files.ts'
import { createFollower } from '../../src/feed/follower.ts'
import { openDatabase } from '../../src/state/database.ts'
import { recordingLog } from '../kit/log.ts'
import { countingRandom, mapping, NAME, never, STORE_DIR, testClock } from './kit.ts'
import { hashPartOf } from '../../src/nix/store-path.ts'
const N = Number(process.argv[2])
const base = mkdtempSync('/tmp/feedscale-')
const clock = testClock()
const place = { name: NAME, dir: join(base, 'feed'), keysDir: join(base, 'keys'), storeDir: STORE_DIR }
const deps = { clock, log: recordingLog() }
const time = async <T>(what: string, work: () => Promise<T>): Promise<T> => { const t = performance.now(); const r = await work(); console.log(what, Math.round(performance.now() - t), 'ms', Math.round(process.memoryUsage().rss / 1e6), 'MB'); return r }
const { rootKey } = await createFeed(place, { ...deps, randomBytes: countingRandom(1) })
const pub = await openPublisher(place, deps)
function* all() { for (let n = 0; n < N; n++) yield mapping(n, { references: [mapping(n + 1).storePath, mapping(n + 2).storePath, mapping(n + 3).storePath] }) }
await time('make entries only', async () => { for (const _ of all()); })
await time('append', () => pub.append(all(), { signal: never() }))
await time('open', () => openPublisher(place, deps))
const db = openDatabase(join(base, 's.sqlite'), { synchronous: 'FULL' })
const files = createPublishedFiles(new Map([[NAME, place.dir]]))
const mk = () => createFollower({ db, clock, log: recordingLog(), storeDir: STORE_DIR }, { feeds: [{ name: NAME, rootKey, sources: [{ id: 'x', fetch: (p) => files.read(NAME, p) }] }] })
const f = mk()
let worst = 0; let lastTick = performance.now(); const iv = setInterval(() => { const n = performance.now(); worst = Math.max(worst, n - lastTick - 5); lastTick = n }, 5)
await time('sync', () => f.sync({ signal: never() }))
clearInterval(iv); console.log('worst event loop pause', Math.round(worst), 'ms')
const g = await time('createFollower', async () => mk())
await time('1000 lookups', async () => { for (let n = 0; n < 1000; n++) await g.sources()[0]!.lookup(hashPartOf(mapping(n * 7 % N).storePath), { signal: never() }) })
clock.seconds += 10
await time('heartbeat', () => pub.heartbeat({ signal: never() }))
await time('sync heartbeat', () => g.sync({ signal: never() }))
await time('append one', () => pub.append([mapping(N + 5)], { signal: never() }))
await time('sync one', () => g.sync({ signal: never() }))
console.log(db.prepare("EXPLAIN QUERY PLAN SELECT bytes FROM feed_entry WHERE hash_part = ? AND feed = ? AND idx < ? ORDER BY idx DESC").all('a', 1, 5).map((r) => r['detail']))
rmSync(base, { recursive: true })
