import type { DatabaseSync } from 'node:sqlite'
import { migrate } from '../state/database.ts'
import type { NeighbourId } from './neighbours.ts'

/** What is remembered of a neighbour over a restart. Times are milliseconds of the wall clock. */
export interface NeighbourRow {
  readonly id: NeighbourId
  readonly kind: 'narswarm' | 'cache'
  /** Absent: named by a multiaddr, and never reached. */
  readonly url?: string
  /** Multiaddr that it was named by. */
  readonly addr?: string
  /** By `peer add`. */
  readonly added: boolean
  readonly since: number
  readonly seen?: number
  readonly lie?: { readonly until: number; readonly reason: string }
  readonly ban?: { readonly at: number; readonly reason: string }
}

export interface NeighbourRows {
  all(): NeighbourRow[]
  put(row: NeighbourRow): void
  delete(id: NeighbourId): void
}

const STEPS = [
  `CREATE TABLE neighbour (
     id         TEXT PRIMARY KEY,
     kind       TEXT NOT NULL,
     url        TEXT,
     addr       TEXT,
     added      INTEGER NOT NULL,
     since      INTEGER NOT NULL,
     seen       INTEGER,
     lie_until  INTEGER,
     lie_reason TEXT,
     ban_at     INTEGER,
     ban_reason TEXT
   ) STRICT, WITHOUT ROWID;`,
]

export function openNeighbourRows(db: DatabaseSync): NeighbourRows {
  migrate(db, 'neighbours', STEPS)
  const select = db.prepare('SELECT * FROM neighbour ORDER BY since, id')
  const replace = db.prepare(
    `INSERT OR REPLACE INTO neighbour(id, kind, url, addr, added, since, seen, lie_until, lie_reason, ban_at, ban_reason)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  )
  const remove = db.prepare('DELETE FROM neighbour WHERE id = ?')
  return {
    all: () => select.all().map(rowOf),
    put({ id, kind, url, addr, added, since, seen, lie, ban }) {
      replace.run(
        id,
        kind,
        url ?? null,
        addr ?? null,
        added ? 1 : 0,
        since,
        seen ?? null,
        lie?.until ?? null,
        lie?.reason ?? null,
        ban?.at ?? null,
        ban?.reason ?? null,
      )
    },
    delete(id) {
      remove.run(id)
    },
  }
}

function rowOf(row: Record<string, unknown>): NeighbourRow {
  const text = (name: string): string | undefined => (typeof row[name] === 'string' ? row[name] : undefined)
  const time = (name: string): number | undefined => (typeof row[name] === 'number' ? row[name] : undefined)
  const [url, addr, seen] = [text('url'), text('addr'), time('seen')]
  const [lieUntil, banAt] = [time('lie_until'), time('ban_at')]
  return {
    id: text('id') ?? '',
    kind: row['kind'] === 'narswarm' ? 'narswarm' : 'cache',
    ...(url === undefined ? {} : { url }),
    ...(addr === undefined ? {} : { addr }),
    added: row['added'] === 1,
    since: time('since') ?? 0,
    ...(seen === undefined ? {} : { seen }),
    ...(lieUntil === undefined ? {} : { lie: { until: lieUntil, reason: text('lie_reason') ?? '' } }),
    ...(banAt === undefined ? {} : { ban: { at: banAt, reason: text('ban_reason') ?? '' } }),
  }
}
