/** Publishes one path that lies in a store: hash, CID, index, entry in the feed. */
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { createFeed, openPublisher } from '../../src/feed/publisher.ts'
import { parseFeedName } from '../../src/feed/feed-name.ts'
import type { Log } from '../../src/log.ts'
import { parsePublicKey, trustedKeys } from '../../src/nix/key.ts'
import { layoutNar } from '../../src/nix/nar-layout.ts'
import { parseNarInfo } from '../../src/nix/narinfo.ts'
import { createPublisher } from '../../src/publish/publish.ts'
import { createSharePolicy } from '../../src/publish/share-policy.ts'
import { openLeafIndex } from '../../src/spool/leaf-index.ts'
import { openSpool } from '../../src/spool/spool.ts'
import { openDatabase } from '../../src/state/database.ts'
import type { LocalStore } from '../../src/store/local-store.ts'
import { streamNar } from '../../src/store/nar-stream.ts'
import { walkStorePath } from '../../src/store/walk.ts'
import { createNarInfoTable } from '../../src/substitute/narinfo-table.ts'

const { dir, path, narInfo, key } = JSON.parse(process.argv[2] ?? '{}') as {
  dir: string
  path: string
  narInfo: string
  key: string
}
const storeDir = '/nix/store'
const quiet = (): void => {}
const log: Log = { debug: quiet, info: quiet, warn: quiet, error: quiet }
const clock = Date.now
const signal = AbortSignal.timeout(600_000)
const db = openDatabase(join(dir, 'state.sqlite'))
const info = parseNarInfo(narInfo, storeDir)
// A store without its database: what is measured begins behind it.
const store: LocalStore = {
  storeDir,
  pathInfo: () => undefined,
  closure: () => [],
  registered: { byId: () => undefined, after: (id) => ({ paths: [], lastId: id }), changeMark: () => '' },
  async *readNar(_, range, options) {
    const layout = layoutNar(await walkStorePath(path, options))
    yield* streamNar(layout, range ?? { start: 0, end: layout.narSize }, options)
  },
  readNarInto: async () => ({ mark: '', changedMs: Infinity }),
  openNar: () => Promise.reject(new Error('publishing reads a NAR from its beginning to its end')),
  close: quiet,
}
const place = {
  name: parseFeedName('bench.invalid/main'),
  dir: join(dir, 'feed'),
  keysDir: join(dir, 'keys'),
  storeDir,
}
await createFeed(place, { clock, log, randomBytes })
const feed = await openPublisher(place, { clock, log })
const publisher = createPublisher(
  {
    policy: createSharePolicy({ keys: trustedKeys([parsePublicKey(key)]), deny: [], storeDir }),
    table: createNarInfoTable({ db, clock, log }, { storeDir }),
    spool: await openSpool({ db, dir: join(dir, 'spool'), log, clock }),
    index: openLeafIndex(db),
    store,
  },
  { storeDir },
)
const begun = performance.now()
const candidates = [{ info, inStore: true, stream: undefined }]
let published = 0
for await (const item of publisher.publish(candidates, { feed, dryRun: false }, { signal })) {
  if (item.outcome === 'published') published += 1
}
const ms = performance.now() - begun
if (published !== 1 || feed.size !== 1) throw new Error('nothing was published')
process.stdout.write(`${JSON.stringify({ ms, bytes: info.narSize })}\n`)
process.exit(0)
