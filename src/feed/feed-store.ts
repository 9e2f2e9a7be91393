/**
 * What a follower remembers, in SQLite. A feed is its name and its pinned root key: another pin is another feed, which
 * starts from nothing.
 *
 * Entries arrive before the root hash that proves them can be told, and a million do not fit into memory. So they are
 * staged in their own table at indexes from `feed.size` on, where no reader looks; the one transaction of
 * {@link FeedStore.accept} raises `size` and everything else with it.
 */
import type { DatabaseSync } from 'node:sqlite'
import type { NarHash } from '../nix/hash.ts'
import type { HashPart } from '../nix/store-path.ts'
import type { SourceId } from '../source.ts'
import { inTransaction, migrate } from '../state/database.ts'
import type { FeedName } from './feed-name.ts'
import { createCompactRange, HASH_BYTES, leafHash, TILE_WIDTH } from './merkle.ts'

interface StoredHead {
  readonly origin: string
  readonly size: number
  readonly rootHash: Uint8Array
  /** Compact range of `size`. */
  readonly range: readonly Uint8Array[]
  readonly checkpoint: Uint8Array
  /** Unix seconds of its heartbeat. */
  readonly time: number
}

/** Two signed checkpoints that no one log can have: proof against the holder of the log key, for anyone to check. */
interface ForkEvidence {
  readonly ours: Uint8Array
  readonly theirs: Uint8Array
  readonly source: string
  /** Milliseconds. */
  readonly foundAt: number
}

export interface StoredFeed {
  readonly id: number
  readonly root: Uint8Array
  /** A valid next root document, which this version cannot follow. */
  readonly successor?: Uint8Array
  readonly head?: StoredHead
  /** Unix seconds: the greatest time that a head was accepted with. */
  readonly timeFloor: number
  readonly fork?: ForkEvidence
}

export interface StagedEntry {
  readonly bytes: Uint8Array
  /** Of mappings and withdrawals. */
  readonly hashPart?: HashPart
}

/** Root of the `n`-th full tile of a level. */
export interface Subtree {
  readonly level: number
  readonly n: number
  readonly hash: Uint8Array
}

/** A NAR has another root than an entry said: evidence against whoever published that entry (design 6). */
export interface BadEntry {
  readonly narHash: NarHash
  /** As it was told. */
  readonly cid: string
  /** Milliseconds. */
  readonly markedAt: number
  /** Who told it, such as `feed:example.org/main`. Absent in rows of the first narswarms. */
  readonly told?: SourceId
  /** Base name. */
  readonly storePath?: string
  /** What the bytes have; absent when all that is known is that it is not this one. */
  readonly computed?: string
}

export interface FeedStore {
  load(name: FeedName, rootKey: string): StoredFeed | undefined
  create(name: FeedName, rootKey: string, root: Uint8Array): StoredFeed
  saveSuccessor(id: number, successor: Uint8Array): void
  saveFork(id: number, fork: ForkEvidence): void
  stage(id: number, index: number, entries: readonly StagedEntry[], subtrees: readonly Subtree[]): void
  /** Forgets what is staged from `size` on. */
  unstage(id: number, size: number): void
  accept(id: number, head: StoredHead, timeFloor: number): void
  /** Newest first. */
  entriesAbout(id: number, size: number, hashPart: HashPart): Uint8Array[]
  /** Fewer than `to - from` when they are not there. */
  entries(id: number, from: number, to: number): Uint8Array[]
  /** The root of the log when it had `size` entries. */
  rootAt(id: number, size: number): Uint8Array
  /** Hashes `from` to `to` of a tile row: leaf hashes at level 0, roots of full tiles of the level below above it. */
  tileHashes(id: number, level: number, from: number, to: number): Uint8Array[]
  /** The first evidence stays. */
  markBad(bad: BadEntry): void
  badEntry(narHash: NarHash, cid: string): BadEntry | undefined
  /** Newest first, `limit` at most. */
  bad(limit: number): BadEntry[]
  badCount(): number
}

const SCHEMA = [
  `CREATE TABLE feed (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    root_key TEXT NOT NULL,
    root BLOB NOT NULL,
    successor BLOB,
    origin TEXT,
    size INTEGER NOT NULL DEFAULT 0,
    root_hash BLOB,
    range BLOB,
    checkpoint BLOB,
    time INTEGER,
    time_floor INTEGER NOT NULL DEFAULT 0,
    UNIQUE (name, root_key)
  ) STRICT;
  CREATE TABLE feed_entry (
    feed INTEGER NOT NULL REFERENCES feed (id),
    idx INTEGER NOT NULL,
    hash_part TEXT,
    bytes BLOB NOT NULL,
    PRIMARY KEY (feed, idx)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX feed_entry_hash_part ON feed_entry (hash_part, feed, idx) WHERE hash_part IS NOT NULL;
  CREATE TABLE feed_subtree (
    feed INTEGER NOT NULL REFERENCES feed (id),
    level INTEGER NOT NULL,
    n INTEGER NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (feed, level, n)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE feed_fork (
    feed INTEGER PRIMARY KEY REFERENCES feed (id),
    ours BLOB NOT NULL,
    theirs BLOB NOT NULL,
    source TEXT NOT NULL,
    found_at INTEGER NOT NULL
  ) STRICT;
  CREATE TABLE feed_bad (
    nar_hash TEXT NOT NULL,
    cid TEXT NOT NULL,
    marked_at INTEGER NOT NULL,
    PRIMARY KEY (nar_hash, cid)
  ) STRICT, WITHOUT ROWID;`,
  `ALTER TABLE feed_bad ADD COLUMN told TEXT;
  ALTER TABLE feed_bad ADD COLUMN store_path TEXT;
  ALTER TABLE feed_bad ADD COLUMN computed TEXT;`,
]

/** 256^7 is above 2^53. */
const LEVELS = 7

export function createFeedStore(db: DatabaseSync): FeedStore {
  migrate(db, 'feed', SCHEMA)
  const sql = {
    feed: db.prepare(
      `SELECT feed.*, ours, theirs, source, found_at FROM feed LEFT JOIN feed_fork ON feed_fork.feed = feed.id
       WHERE name = ? AND root_key = ?`,
    ),
    insertFeed: db.prepare('INSERT INTO feed (name, root_key, root) VALUES (?, ?, ?)'),
    successor: db.prepare('UPDATE feed SET successor = ? WHERE id = ?'),
    fork: db.prepare('INSERT INTO feed_fork (feed, ours, theirs, source, found_at) VALUES (?, ?, ?, ?, ?)'),
    insertEntry: db.prepare('INSERT INTO feed_entry (feed, idx, hash_part, bytes) VALUES (?, ?, ?, ?)'),
    insertSubtree: db.prepare('INSERT INTO feed_subtree (feed, level, n, hash) VALUES (?, ?, ?, ?)'),
    deleteEntries: db.prepare('DELETE FROM feed_entry WHERE feed = ? AND idx >= ?'),
    deleteSubtrees: db.prepare('DELETE FROM feed_subtree WHERE feed = ? AND level = ? AND n >= ?'),
    accept: db.prepare(
      `UPDATE feed SET origin = ?, size = ?, root_hash = ?, range = ?, checkpoint = ?, time = ?, time_floor = ?
       WHERE id = ?`,
    ),
    // Left to itself SQLite walks the primary key, a million entries a look-up; INDEXED BY fails rather than do that.
    about: db.prepare(
      `SELECT bytes FROM feed_entry INDEXED BY feed_entry_hash_part
       WHERE hash_part = ? AND feed = ? AND idx < ? ORDER BY idx DESC`,
    ),
    entries: db.prepare('SELECT bytes FROM feed_entry WHERE feed = ? AND idx >= ? AND idx < ? ORDER BY idx'),
    subtrees: db.prepare(
      'SELECT hash FROM feed_subtree WHERE feed = ? AND level = ? AND n >= ? AND n < ? ORDER BY n',
    ),
    insertBad: db.prepare(
      `INSERT OR IGNORE INTO feed_bad (nar_hash, cid, marked_at, told, store_path, computed)
       VALUES (?, ?, ?, ?, ?, ?)`,
    ),
    badEntry: db.prepare('SELECT * FROM feed_bad WHERE nar_hash = ? AND cid = ?'),
    bad: db.prepare('SELECT * FROM feed_bad ORDER BY marked_at DESC, nar_hash, cid LIMIT ?'),
    badCount: db.prepare('SELECT count(*) AS count FROM feed_bad'),
  }

  function load(name: FeedName, rootKey: string): StoredFeed | undefined {
    const row = sql.feed.get(name, rootKey)
    return row === undefined ? undefined : readFeed(row)
  }

  function entries(id: number, from: number, to: number): Uint8Array[] {
    return sql.entries.all(id, from, to).map((row) => row['bytes'] as Uint8Array)
  }

  function tileHashes(id: number, level: number, from: number, to: number): Uint8Array[] {
    if (level === 0) return entries(id, from, to).map(leafHash)
    return sql.subtrees.all(id, level - 1, from, to).map((row) => row['hash'] as Uint8Array)
  }

  return {
    load,
    create(name, rootKey, root) {
      sql.insertFeed.run(name, rootKey, root)
      const feed = load(name, rootKey)
      if (feed === undefined) throw new Error(`feed ${name} was written and cannot be read`)
      return feed
    },
    saveSuccessor(id, successor) {
      sql.successor.run(successor, id)
    },
    saveFork(id, { ours, theirs, source, foundAt }) {
      sql.fork.run(id, ours, theirs, source, foundAt)
    },
    stage(id, index, staged, subtrees) {
      inTransaction(db, () => {
        for (const [at, { bytes, hashPart }] of staged.entries()) {
          sql.insertEntry.run(id, index + at, hashPart ?? null, bytes)
        }
        for (const { level, n, hash } of subtrees) sql.insertSubtree.run(id, level, n, hash)
      })
    },
    unstage(id, size) {
      inTransaction(db, () => {
        sql.deleteEntries.run(id, size)
        for (let level = 0; level < LEVELS; level++) {
          sql.deleteSubtrees.run(id, level, Math.floor(size / TILE_WIDTH ** (level + 1)))
        }
      })
    },
    accept(id, head, timeFloor) {
      const { origin, size, rootHash, range, checkpoint, time } = head
      inTransaction(db, () =>
        sql.accept.run(origin, size, rootHash, Buffer.concat(range), checkpoint, time, timeFloor, id),
      )
    },
    entriesAbout: (id, size, hashPart) =>
      sql.about.all(hashPart, id, size).map((row) => row['bytes'] as Uint8Array),
    entries,
    rootAt(id, size) {
      // Greatest full tiles first, then the leaves behind them: some hundreds of hashes at any size.
      const range = createCompactRange()
      for (let level = LEVELS; level >= 0; level--) {
        const leaves = TILE_WIDTH ** level
        const hashes = tileHashes(id, level, range.size / leaves, Math.floor(size / leaves))
        for (const hash of hashes) range.appendSubtree(hash, level * Math.log2(TILE_WIDTH))
      }
      return range.root()
    },
    tileHashes,
    markBad({ narHash, cid, markedAt, told, storePath, computed }) {
      sql.insertBad.run(narHash, cid, markedAt, told ?? null, storePath ?? null, computed ?? null)
    },
    badEntry(narHash, cid) {
      const row = sql.badEntry.get(narHash, cid)
      return row === undefined ? undefined : readBad(row)
    },
    bad: (limit) => sql.bad.all(limit).map(readBad),
    badCount: () => Number(sql.badCount.get()?.['count']),
  }
}

type Row = Record<string, unknown>

function readFeed(row: Row): StoredFeed {
  const fork =
    row['ours'] === null
      ? undefined
      : {
          ours: row['ours'] as Uint8Array,
          theirs: row['theirs'] as Uint8Array,
          source: row['source'] as string,
          foundAt: row['found_at'] as number,
        }
  return {
    id: row['id'] as number,
    root: row['root'] as Uint8Array,
    timeFloor: row['time_floor'] as number,
    ...(row['successor'] !== null && { successor: row['successor'] as Uint8Array }),
    ...(row['checkpoint'] !== null && { head: readHead(row) }),
    ...(fork !== undefined && { fork }),
  }
}

function readBad(row: Row): BadEntry {
  return {
    narHash: row['nar_hash'] as NarHash,
    cid: row['cid'] as string,
    markedAt: row['marked_at'] as number,
    ...(row['told'] !== null && { told: row['told'] as string }),
    ...(row['store_path'] !== null && { storePath: row['store_path'] as string }),
    ...(row['computed'] !== null && { computed: row['computed'] as string }),
  }
}

function readHead(row: Row): StoredHead {
  const range = row['range'] as Uint8Array
  const hashes = Array.from({ length: range.length / HASH_BYTES }, (_, at) =>
    range.slice(at * HASH_BYTES, (at + 1) * HASH_BYTES),
  )
  return {
    origin: row['origin'] as string,
    size: row['size'] as number,
    rootHash: row['root_hash'] as Uint8Array,
    range: hashes,
    checkpoint: row['checkpoint'] as Uint8Array,
    time: row['time'] as number,
  }
}
