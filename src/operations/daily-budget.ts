/** What may be fetched in a day, by audits or for others, kept over restarts. */
import type { DatabaseSync } from 'node:sqlite'
import { migrate } from '../state/database.ts'
import type { Purse } from '../substitute/root-judge.ts'

const DAY_MS = 24 * 3600 * 1000

const steps = (table: string): string[] => [
  `CREATE TABLE ${table} (
     id INTEGER PRIMARY KEY CHECK (id = 0),
     age_ms INTEGER NOT NULL,
     spent INTEGER NOT NULL,
     seen INTEGER NOT NULL
   ) STRICT;
   INSERT INTO ${table} VALUES (0, 0, 0, 0);`,
]

/**
 * A day begins when the last one is 24 hours old, by time that has passed, not by the calendar. While we run, a clock that
 * nobody can set counts it; between two runs the wall clock does, for a day at most, and only as far as it is ahead of all
 * that it ever said. So a clock that is set back, or that begins in 1970 at every boot, gives nothing away; one that was
 * years ahead for a while gives one day, and ends nothing. Time asleep may not count: then there is less, never more.
 */
export interface DailyBudget extends Purse {
  readonly maxBytes: number
  spentBytes(): number
  leftBytes(): number
}

export function openDailyBudget(
  deps: {
    /** With `synchronous=FULL`: what is set aside is on disk before it is asked for. */
    db: DatabaseSync
    /** Milliseconds since 1970. */
    clock: () => number
    /** Milliseconds since anything; never goes back. */
    monotonic: () => number
  },
  { table, maxBytes }: { table: 'audit_day' | 'relay_day'; maxBytes: number },
): DailyBudget {
  const { db, clock, monotonic } = deps
  migrate(db, table, steps(table))
  const update = db.prepare(`UPDATE ${table} SET age_ms = ?, spent = ?, seen = ?`)
  const row = db.prepare(`SELECT age_ms, spent, seen FROM ${table}`).get()
  let spent = Number(row?.['spent'])
  let seen = Number(row?.['seen'])
  let ageMs = Number(row?.['age_ms']) + Math.min(DAY_MS, Math.max(0, clock() - seen))
  let lookedAt = monotonic()
  /** Told apart, so that nothing is given back into another day than it came from. */
  let day = 0

  function look(): void {
    const now = monotonic()
    const elapsed = Math.max(0, now - lookedAt)
    lookedAt = now
    ageMs += elapsed
    // Also while the wall clock is behind: time that was counted once is not counted again after a restart.
    seen = Math.max(seen + elapsed, clock())
    if (ageMs < DAY_MS) return
    ageMs = 0
    spent = 0
    day += 1
  }

  const save = (): void => void update.run(Math.floor(ageMs), spent, Math.floor(seen))

  return {
    maxBytes,
    spentBytes() {
      look()
      return spent
    },
    leftBytes() {
      look()
      return Math.max(0, maxBytes - spent)
    },
    take(bytes) {
      look()
      if (spent + bytes > maxBytes) return undefined
      spent += bytes
      const from = day
      try {
        save()
      } catch (error) {
        spent -= bytes
        throw error
      }
      return {
        giveBack(unused) {
          look()
          if (from !== day) return
          spent -= unused
          save()
        },
      }
    },
  }
}
