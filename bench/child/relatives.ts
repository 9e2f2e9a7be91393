/** Misses of the search for older paths in a database of many valid paths: what every other NAR pays for it. */
import { createHash } from 'node:crypto'
import { DatabaseSync } from 'node:sqlite'
import { parseNarHash } from '../../src/nix/hash.ts'
import { encodeNix32 } from '../../src/nix/nix32.ts'
import { parseStorePathBaseName } from '../../src/nix/store-path.ts'
import type { HashPart } from '../../src/nix/store-path.ts'
import { createNameIndex } from '../../src/store/name-index.ts'
import { openPathInfos } from '../../src/store/path-info.ts'
import { createRewriting } from '../../src/substitute/rewriting.ts'

const { database, paths, lookUps } = JSON.parse(process.argv[2] ?? '{}') as {
  database: string
  paths: number
  lookUps: number
}
const PACKAGES_COUNT = 40_000
const quiet = (): void => {}
const log = { debug: quiet, info: quiet, warn: quiet, error: quiet }
const hashOf = (text: string): Buffer => createHash('sha256').update(text).digest()
const partOf = (text: string): string => encodeNix32(hashOf(text).subarray(0, 20))

const db = new DatabaseSync(database)
// What of Nix's schema 10 is read.
db.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;
  CREATE TABLE ValidPaths (id integer primary key autoincrement not null, path text unique not null, hash text not null,
    registrationTime integer not null, deriver text, narSize integer, ultimate integer, sigs text, ca text);
  CREATE TABLE Refs (referrer integer not null, reference integer not null, primary key (referrer, reference));
  BEGIN`)
const insert = db.prepare(
  'INSERT INTO ValidPaths (path, hash, registrationTime, narSize, sigs) VALUES (?, ?, 0, ?, ?)',
)
for (let at = 0; at < paths; at += 1) {
  const hash = hashOf(`${at}`)
  const path = `/nix/store/${partOf(`${at}`)}-package${at % PACKAGES_COUNT}-1.${at % 7}`
  insert.run(path, `sha256:${hash.toString('hex')}`, 96 + at, `cache-1:${hash.toString('base64')}`)
}
db.exec('COMMIT')

const infos = openPathInfos({ database, storeDir: '/nix/store' }, { log })
const begun = performance.now()
const names = createNameIndex(infos, { log })
await names.filled
const filledMs = performance.now() - begun
const store = {
  pathInfo: (hashPart: HashPart) => infos.byHashPart(hashPart),
  readNarInto: async () => {
    throw new Error('no path has files')
  },
}
const rewriting = createRewriting({ store, names, clock: () => performance.now(), log })
const times: number[] = []
for (let at = 0; at < lookUps; at += 1) {
  const wanted = {
    // Half of them packages that are here, in another size.
    storePath: parseStorePathBaseName(`${partOf(`wanted ${at}`)}-package${at * 2}-1.${at % 7}`),
    narHash: parseNarHash(`sha256:${encodeNix32(hashOf(`wanted ${at}`))}`),
    narSize: 50,
    references: [],
  }
  const asked = performance.now()
  if (rewriting.guess(wanted) !== undefined) throw new Error('nothing here is like it')
  times.push(performance.now() - asked)
}
times.sort((a, b) => a - b)
infos.close()
process.stdout.write(
  `${JSON.stringify({ filledMs, p99Ms: times[Math.floor(lookUps * 0.99)], maxMs: times.at(-1) })}\n`,
)
