/** The narswarm that dies: some hundred short lives on one state directory, and an inquest after each dozen. */
import { existsSync } from 'node:fs'
import { open, rm, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { NarHash } from '../../../src/nix/hash.ts'
import { narPath } from '../../../src/spool/nar-file.ts'
import { createAcknowledged, OWN_FEED } from './acknowledged.ts'
import type { Acknowledged } from './acknowledged.ts'
import type { Clients } from './clients.ts'
import { drawFailpoint } from './failpoint-names.ts'
import type { Windows } from './failpoint-names.ts'
import type { OldStore } from './old-store.ts'
import type { Random } from './random.ts'
import type { Stage } from './stage.ts'
import { checkState, wholeNars } from './state-check.ts'
import type { Subject } from './subject.ts'
import type { Tally } from './tally.ts'
import type { TrueNar, World } from './world.ts'

/** Mean of how long one is up: a start takes about as long. */
const LIFE_MEAN_MS = 500
const LIFE_MAX_MS = 5_000
/** Start-up takes some 600 ms on an idle machine. */
const START_UP_MS = 700
/** A failpoint that has not come by then will not come any more. */
const FAILPOINT_WAIT_MS = 900
const INQUEST_KILLS_COUNT = 40
const DAY_MS = 24 * 3600 * 1000
/** What was answered stays so for NARINFO_ANSWERABLE_MS; a heartbeat older than 14 days is no head at all. */
const CLOCK_DAYS = 5
/** SHUTDOWN_GRACE_MS, and some. */
const SHUTDOWN_MAX_MS = 20_000

export interface MortalDeps {
  readonly subject: Subject
  readonly clients: Clients
  readonly stage: Stage
  readonly oldStore: OldStore
  readonly world: World
  readonly tally: Tally
  readonly random: Random
  /** No life begins after it. */
  readonly enough: () => boolean
  readonly signal: AbortSignal
}

export async function liveAndDie(deps: MortalDeps): Promise<void> {
  const { subject, clients, stage, oldStore, world, tally, random, signal } = deps
  /** Whole at an inquest, hence at all later ones. */
  const kept = new Set<NarHash>()
  /** Not kept: the store has them. */
  const inStore = new Set(world.older.map(({ nar }) => nar.narHash))
  /** Damaged by `rot`. */
  const rotted = new Set<NarHash>()
  let next = 0

  await subject.start()
  const { rootKey } = await subject.operations.createFeed(OWN_FEED, { signal })
  const acknowledged = createAcknowledged(subject.stateDir, rootKey)
  // A clean end, after which Node's compile cache is there for all the starts to come.
  subject.signal('SIGTERM')
  await subject.ended()

  for (let kills = 0; !deps.enough(); kills++) {
    await life()
    if (random.chance(0.5)) await rot()
    if (random.chance(0.2)) await oldStore.damage(random)
    if (random.chance(0.1)) await oldStore.mend()
    if (kills % INQUEST_KILLS_COUNT === INQUEST_KILLS_COUNT - 1) await inquest()
    if (random.chance(0.3)) await stage.publishNext()
  }
  await inquest()

  async function life(): Promise<void> {
    const failpoint = random.chance(0.6) ? drawFailpoint(random) : undefined
    const early = failpoint === undefined && random.chance(0.15) ? random.int(0, START_UP_MS) : undefined
    const starting = subject.start(failpoint)
    if (early !== undefined) {
      await sleep(early)
      subject.signal('SIGKILL')
    }
    const startMs = await starting
    if (startMs === undefined) return ending(early === undefined ? undefined : 'in start-up')
    tally.count('starts')
    tally.count('start ms', Math.round(startMs))
    const windows = drawWindows(random)
    subject.send(windows)
    subject.trouble(windows.full === true || windows.io === true)

    const over = new AbortController()
    const end = subject.ended().finally(() => over.abort())
    const watching = watch(over.signal)
    const lifeMs = Math.min(-Math.log(1 - random.next()) * LIFE_MEAN_MS, LIFE_MAX_MS)
    await sleep(Math.max(lifeMs, failpoint === undefined ? 0 : FAILPOINT_WAIT_MS), undefined, {
      signal: over.signal,
    }).catch(() => {})
    let how = early === undefined ? undefined : 'in start-up'
    if (subject.running()) how = random.chance(0.1) ? await shutDown(over.signal) : 'at random'
    if (how === 'at random') subject.signal('SIGKILL')
    await end
    await watching
    for (const narHash of kept) {
      if (existsSync(narPath(join(subject.stateDir, 'spool'), narHash))) continue
      kept.delete(narHash)
      // From a full disk the least recently used go, for what is on its way; the log does not say so when it is killed right then.
      if (windows.full !== true) tally.violation(`lost: NAR ${narHash} was whole, and its file has gone`)
    }
    await ending(how)
  }

  /** Asks it to end, and does not always wait for that. */
  async function shutDown(over: AbortSignal): Promise<string> {
    subject.signal('SIGTERM')
    const patience = random.chance(0.7) ? random.int(0, 500) : SHUTDOWN_MAX_MS
    await sleep(patience, undefined, { signal: over }).catch(() => {})
    if (!subject.running()) return 'SIGTERM'
    if (patience === SHUTDOWN_MAX_MS) tally.violation(`it had not ended ${SHUTDOWN_MAX_MS} ms after SIGTERM`)
    subject.signal('SIGKILL')
    return 'in shut-down'
  }

  /** @param how it was made to end; undefined: nobody but a failpoint */
  async function ending(how: string | undefined): Promise<void> {
    const end = await subject.ended()
    if (end.signal === 'SIGKILL') {
      tally.count('kills')
      tally.count(end.failpoint === undefined ? `kill ${how ?? 'by whom'}` : `failpoint ${end.failpoint}`)
    } else if (end.code === 0 && (how === 'SIGTERM' || how === 'in shut-down')) {
      // Also when it had just ended as it was to be killed.
      tally.count('clean ends')
    } else
      tally.violation(`it ended by itself, with ${end.code ?? end.signal}`, {
        log: subject.log().slice(-4000),
      })
  }

  /** Looks at what it says and publishes into its feed, until it is over. */
  async function watch(over: AbortSignal): Promise<void> {
    const options = { signal: over }
    try {
      assertKept(acknowledged, await subject.operations.status(options))
      if (random.chance(0.5)) await stage.pardon(subject, options)
      const path = world.small[next % world.small.length]
      if (path === undefined) return
      next += 1
      const asked = { feed: OWN_FEED, dryRun: false, from: stage.honestUrl, paths: [path.hashPart] }
      for await (const event of subject.operations.publish(asked, options)) {
        if (event.kind === 'done') acknowledged.publishedTo(event.size)
      }
      tally.count('published')
      while (!over.aborted) {
        await sleep(random.int(50, 250), undefined, options)
        assertKept(acknowledged, await subject.operations.status(options))
      }
    } catch {
      // It died under the question, or its disk is full.
    }
  }

  function assertKept(known: Acknowledged, status: Parameters<Acknowledged['look']>[0]): void {
    for (const lost of known.look(status))
      tally.violation(`lost: ${lost}`, { log: subject.log().slice(-4000) })
  }

  /** Some NARs on its disk go bad: bits, length, or the whole file. So there is always something to fetch, too. */
  async function rot(): Promise<void> {
    const whole = [...wholeNars(subject.stateDir)]
    for (let left = Math.min(whole.length, random.int(1, 6)); left > 0; left--) {
      const victim = random.pick(whole)
      rotted.add(victim)
      kept.delete(victim)
      await spoil(narPath(join(subject.stateDir, 'spool'), victim), random)
      tally.count('files spoilt')
    }
  }

  /** Every source cut off: what was promised to be here is. Then the state directory itself is looked at. */
  async function inquest(): Promise<void> {
    await clients.rest()
    await Promise.all(stage.proxies.map((proxy) => proxy.shut()))
    try {
      const since = Date.now()
      await subject.start()
      assertKept(acknowledged, await subject.operations.status({ signal }))
      for (const fault of await acknowledged.followOwn({ signal })) tally.violation(`lost: ${fault}`)
      const whole = wholeNars(subject.stateDir)
      for (const narHash of kept) {
        if (!whole.has(narHash)) tally.violation(`lost: NAR ${narHash} was whole, and its row is gone`)
      }
      await askForAll(whole)
      subject.signal('SIGTERM')
      const end = await subject.ended()
      if (end.code !== 0) tally.violation(`after SIGTERM it ended with ${end.code ?? end.signal}`)
      const report = await checkState(subject.stateDir, world, rotted, since)
      for (const fault of report.faults)
        tally.violation(`on disk: ${fault}`, { log: subject.log().slice(-4000) })
      for (const narHash of report.sound) {
        rotted.delete(narHash)
        if (!inStore.has(narHash)) kept.add(narHash)
      }
      tally.count('inquests')
      tally.count('NARs hashed on disk', report.rows.whole)
      tally.count('leaf rows checked', report.rows.leaves)
      const lost = [...clients.had].filter(
        ({ narHash }) => !report.whole.has(narHash) && !rotted.has(narHash),
      )
      tally.count('had but not kept', lost.length)
    } finally {
      await Promise.all(stage.proxies.map((proxy) => proxy.open()))
      clients.resume()
    }
  }

  async function askForAll(whole: ReadonlySet<NarHash>): Promise<void> {
    const nars = new Set<TrueNar>()
    for (const path of clients.answered) {
      const narInfo = await clients.ask({ target: `/${path.hashPart}.narinfo` }, { kind: 'narinfo', path })
      if (narInfo.exchange.status !== 200) {
        tally.violation(
          `lost: /${path.hashPart}.narinfo was answered before, and now ${narInfo.exchange.status}`,
        )
      }
      nars.add(path.nar)
    }
    for (const nar of nars) {
      const target = `/nar/${nar.narHash}.nar`
      const about = { kind: 'nar', nar } as const
      const head = await clients.ask({ method: 'HEAD', target, truth: nar.bytes }, about)
      if (head.exchange.status !== 200) {
        tally.violation(`lost: HEAD ${target} of an answered narinfo is ${head.exchange.status}`)
      }
      if (!whole.has(nar.narHash) || rotted.has(nar.narHash)) continue
      const { exchange } = await clients.ask({ target, truth: nar.bytes }, about)
      if (exchange.status !== 200 || !exchange.complete) {
        tally.violation(`lost: ${target} has a row as whole, and is answered ${exchange.status}`)
      }
    }
  }
}

/** What goes wrong in one life, beside its end. */
function drawWindows(random: Random): Windows {
  const windows = random.weighted<Windows>([
    [14, {}],
    [2, { full: true }],
    [1, { io: true }],
  ])
  const days = random.chance(0.3) ? random.int(-CLOCK_DAYS, CLOCK_DAYS) : 0
  return { ...windows, clockMs: days * DAY_MS }
}

export async function spoil(path: string, random: Random): Promise<void> {
  const how = random.pick(['bit', 'short', 'gone'])
  if (how === 'gone') return rm(path, { force: true })
  try {
    const file = await open(path, 'r+')
    try {
      const { size } = await file.stat()
      const at = random.int(0, size - 1)
      if (how === 'short') return await truncate(path, at)
      const byte = Buffer.alloc(1)
      await file.read(byte, 0, 1, at)
      byte[0] = (byte[0] ?? 0) ^ 1
      await file.write(byte, 0, 1, at)
    } finally {
      await file.close()
    }
  } catch (error) {
    // The program itself has thrown it away meanwhile.
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}
