/** The narswarm that lives through it all: paused, its clock wrong, its disk full; its memory must stay where it is. */
import { execFileSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { NarHash } from '../../../src/nix/hash.ts'
import { narPath } from '../../../src/spool/nar-file.ts'
import { spoil } from './mortal.ts'
import type { OldStore } from './old-store.ts'
import type { Random } from './random.ts'
import type { Stage } from './stage.ts'
import { wholeNars } from './state-check.ts'
import type { Subject } from './subject.ts'
import type { Tally } from './tally.ts'

const DAY_MS = 24 * 3600 * 1000
const CLOCK_DAYS = 5
/** All NARs twice, and the tables. */
const DISK_MB = 400
const SAMPLE_MS = 2_000
/** Heap and buffers are as large as they get after so much of a run; not sooner than this. */
const WARM_SHARE = 0.3
const WARM_MIN_MS = 40_000
/** What the last third may have more than the first one after that. */
const RSS_GROWTH_MAX = 1.25
const RSS_SLACK_MB = 60
const FDS_SLACK_COUNT = 40

interface Sample {
  readonly at: number
  readonly rssMb: number
  readonly fds: number
}

/** A disk of its own where that can be had, so that it can be filled. @returns whether it was mounted */
export function mountSmallDisk(dir: string): boolean {
  mkdirSync(dir, { recursive: true, mode: 0o700 })
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${DISK_MB}m,mode=0700`, 'tmpfs', dir], {
      stdio: 'ignore',
    })
    return true
  } catch {
    return false
  }
}

export function unmount(dir: string): void {
  execFileSync('umount', ['-l', dir], { stdio: 'ignore' })
}

export interface SteadyDeps {
  readonly subject: Subject
  readonly stage: Pick<Stage, 'pardon'>
  readonly oldStore: OldStore
  readonly tally: Tally
  readonly random: Random
  /** Whether its state directory is a disk that can be filled. */
  readonly ownDisk: boolean
  /**
   * NARs that somebody reads just now. They are not spoilt: who follows a transfer reads what it wrote a moment ago
   * without hashing it again.
   */
  readonly reading: ReadonlyMap<NarHash, number>
  readonly signal: AbortSignal
}

/** Goes on until the signal. @returns what it used meanwhile */
export async function liveOn(deps: SteadyDeps): Promise<Sample[]> {
  const { subject, stage, oldStore, tally, random, ownDisk, reading, signal } = deps
  const samples: Sample[] = []
  const begun = performance.now()
  const pause = (ms: number): Promise<void> => sleep(ms, undefined, { signal }).catch(() => {})

  const watching = (async () => {
    while (!signal.aborted) {
      const sample = await subject.sample()
      if (sample !== undefined) samples.push({ at: performance.now() - begun, ...sample })
      await pause(SAMPLE_MS)
    }
  })()

  const fill = async (): Promise<void> => {
    const ballast = join(subject.stateDir, 'ballast')
    if (ownDisk) await writeFile(ballast, Buffer.alloc(DISK_MB * 2 ** 20)).catch(() => {})
    else subject.send({ full: true })
    subject.trouble(true)
    await pause(random.int(1000, 4000))
    await rm(ballast, { force: true })
    subject.send({})
    subject.trouble(false)
  }
  const mishaps: readonly (readonly [number, string, () => Promise<void>])[] = [
    [
      4,
      'paused',
      async () => {
        subject.signal('SIGSTOP')
        await pause(random.int(100, 2500))
        subject.signal('SIGCONT')
      },
    ],
    [3, 'clock jumps', async () => subject.send({ clockMs: random.int(-CLOCK_DAYS, CLOCK_DAYS) * DAY_MS })],
    [1, 'disk full', fill],
    [
      1,
      'fsync fails',
      async () => {
        subject.send({ io: true })
        subject.trouble(true)
        await pause(random.int(500, 3000))
        subject.send({})
        subject.trouble(false)
      },
    ],
    [4, 'liars pardoned', async () => stage.pardon(subject, { signal })],
    [
      2,
      'old paths damaged',
      async () => {
        for (let left = random.int(1, 3); left > 0; left--) await oldStore.damage(random)
        await pause(random.int(100, 3000))
        await oldStore.mend()
      },
    ],
    [
      9,
      'NARs spoilt',
      async () => {
        // Else everything would be here soon, and nothing be fetched any more.
        const whole = [...wholeNars(subject.stateDir)].filter((one) => (reading.get(one) ?? 0) === 0)
        for (let left = Math.min(whole.length, random.int(1, 12)); left > 0; left--) {
          await spoil(narPath(join(subject.stateDir, 'spool'), random.pick(whole)), random)
        }
      },
    ],
  ]
  while (!signal.aborted) {
    await pause(random.int(300, 3000))
    const [, name, mishap] = random.weighted(mishaps.map((one) => [one[0], one] as const))
    if (signal.aborted || !subject.running()) break
    tally.count(`mishap ${name}`)
    await mishap()
  }
  await watching
  return samples
}

/** @returns what grew; nothing for a run that was too short to say */
export function growth(samples: readonly Sample[]): { faults: string[]; told: string } {
  const last = samples.at(-1)?.at ?? 0
  const warm = samples.filter(({ at }) => at >= Math.max(WARM_MIN_MS, last * WARM_SHARE))
  const third = Math.floor(warm.length / 3)
  const rss = samples.map(({ rssMb }) => rssMb)
  const fds = samples.map((one) => one.fds)
  const range = (list: readonly number[]): string =>
    `${Math.round(Math.min(...list))} to ${Math.round(Math.max(...list))}`
  const told = `memory ${range(rss)} MB, descriptors ${range(fds)}`
  if (third < 5) return { faults: [], told: `${told} (too short to see a trend)` }
  const early = warm.slice(0, third)
  const late = warm.slice(-third)
  const [rssEarly, rssLate] = [early, late].map((list) => median(list.map(({ rssMb }) => rssMb))) as [
    number,
    number,
  ]
  const [fdsEarly, fdsLate] = [early, late].map((list) => median(list.map((one) => one.fds))) as [
    number,
    number,
  ]
  const faults: string[] = []
  if (rssLate > rssEarly * RSS_GROWTH_MAX + RSS_SLACK_MB) {
    faults.push(`memory grew from ${Math.round(rssEarly)} to ${Math.round(rssLate)} MB`)
  }
  if (fdsLate > fdsEarly + FDS_SLACK_COUNT) faults.push(`descriptors grew from ${fdsEarly} to ${fdsLate}`)
  const trend = `medians ${Math.round(rssEarly)} then ${Math.round(rssLate)} MB, ${fdsEarly} then ${fdsLate}`
  return { faults, told: `${told}; ${trend}` }
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0
}
