/** One run of the torture, from the world it is played on to the table at its end. */
import type { ChildProcess } from 'node:child_process'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { NAR_FIRST_BYTE_DEADLINE_MS, RESOLVE_DEADLINE_MS } from '../../../src/limits.ts'
import { startClients } from './clients.ts'
import { liveAndDie } from './mortal.ts'
import { makeOldStore } from './old-store.ts'
import { createRandom } from './random.ts'
import { formatReport } from './report.ts'
import { openStage } from './stage.ts'
import { growth, liveOn, mountSmallDisk, unmount } from './steady.ts'
import { checkState } from './state-check.ts'
import { createSubject } from './subject.ts'
import { createTally } from './tally.ts'
import { hasStatus } from './until.ts'
import { makeWorld } from './world.ts'

/** For driver, subjects and everybody else on a machine of two cores. */
const SLACK_MS = 8_000
const BOUNDS = {
  narInfoMs: RESOLVE_DEADLINE_MS + SLACK_MS,
  headMs: NAR_FIRST_BYTE_DEADLINE_MS + SLACK_MS,
  silenceMs: 40_000,
}
const CLIENTS_COUNT = { mortal: 8, steady: 4 } as const
/** What the last inquest and the last look at descriptors take. */
const END_MS = 20_000
const PROGRESS_MS = { tty: 1_000, other: 30_000 }
/** The bar: kills in a minute. */
const KILLS_PER_MINUTE = 20
/** Orphaned transfers and kept connections are gone after so long. */
const IDLE_MS = 9_000
const IDLE_FDS_SLACK_COUNT = 16

export interface RunDeps {
  readonly dir: string
  /** The command that repeats it. */
  readonly again: string
  readonly stdout: NodeJS.WriteStream
  readonly hold: (child: ChildProcess) => void
  /** Done at the end of the process, also when it is cut short. */
  readonly atExit: (work: () => void) => void
  readonly stop: AbortSignal
}

/** @returns whether nothing was wrong */
export async function run(
  deps: RunDeps,
  config: { minutes: number; seed: number; kills: number },
): Promise<boolean> {
  const { dir, stdout, hold, atExit, stop } = deps
  const runDir = join(dir, 'run')
  const isTty = stdout.isTTY
  const say = (line: string): void => void stdout.write(`${isTty ? '\r\u001b[K' : ''}${line}\n`)
  const random = createRandom(config.seed)
  const tally = createTally(join(dir, 'evidence'), say)
  const over = new AbortController()
  const signal = AbortSignal.any([over.signal, stop])

  const world = makeWorld(random.fork('world'))
  const bytes = [...world.nars.values()].reduce((sum, nar) => sum + nar.bytes.length, 0)
  say(`${world.paths.length} paths, ${world.nars.size} NARs, ${Math.round(bytes / 1e6)} MB`)
  const stage = await openStage(world, { dir: runDir, random: random.fork('stage'), signal, hold })
  const rootOf = (name: keyof typeof CLIENTS_COUNT): string => join(runDir, name, 'root')
  const make = (name: keyof typeof CLIENTS_COUNT) => {
    const settings = (port: number) => stage.settings(port, rootOf(name), name === 'steady')
    return createSubject(name, join(runDir, name), settings, hold)
  }
  const mortal = await make('mortal')
  const steady = await make('steady')
  const ownDisk = mountSmallDisk(steady.stateDir)
  if (ownDisk) atExit(() => unmount(steady.stateDir))
  say(
    `disk full is ${ownDisk ? 'a small tmpfs, filled' : 'said by the preload: no tmpfs can be mounted here'}`,
  )
  const begun = performance.now()
  const endsAt = begun + config.minutes * 60_000
  const clientsOf = (subject: typeof mortal, count: number) =>
    startClients(count, {
      subject,
      world,
      origins: stage.origins,
      tally,
      random: random.fork(`clients of ${subject.name}`),
      bounds: BOUNDS,
      signal,
    })
  try {
    const since = Date.now()
    const oldStores = {
      mortal: await makeOldStore(rootOf('mortal'), world.older),
      steady: await makeOldStore(rootOf('steady'), world.older),
    }
    await steady.start()
    const { peer } = await hasStatus(steady, ({ peer }) => peer !== undefined, signal)
    stage.neighbour(peer?.url ?? '')
    await sleep(1_000)
    const idleBefore = await steady.sample()
    const clients = clientsOf(mortal, CLIENTS_COUNT.mortal)
    const others = clientsOf(steady, CLIENTS_COUNT.steady)
    const settled = new AbortController()
    const living = liveOn({
      subject: steady,
      stage,
      oldStore: oldStores.steady,
      reading: others.reading,
      tally,
      random: random.fork('steady'),
      ownDisk,
      signal: AbortSignal.any([settled.signal, signal]),
    })
    const told = progress(
      () => {
        const at = Math.round((performance.now() - begun) / 1000)
        const line = `${at} s: ${tally.get('kills')} kills, ${tally.get('requests')} requests, ${tally.get('inquests')} inquests, ${tally.get('violations')} violations`
        stdout.write(isTty ? `\r\u001b[K${line}` : `${line}\n`)
      },
      isTty ? PROGRESS_MS.tty : PROGRESS_MS.other,
    )
    try {
      await liveAndDie({
        subject: mortal,
        clients,
        stage,
        oldStore: oldStores.mortal,
        world,
        tally,
        random: random.fork('mortal'),
        enough: () =>
          signal.aborted || performance.now() > endsAt - END_MS || tally.get('kills') >= config.kills,
        signal,
      })
      settled.abort()
      const samples = await living
      const grown = growth(samples)
      for (const fault of grown.faults) tally.violation(`steady: ${fault}`)
      await others.rest()
      await sleep(IDLE_MS)
      const idle = await steady.sample()
      const got = await steady.operations.status({ signal })
      if (idle === undefined) tally.violation('steady: it has ended', { log: steady.log().slice(-4000) })
      const most = (idleBefore?.fds ?? 0) + IDLE_FDS_SLACK_COUNT
      if ((idle?.fds ?? 0) > most)
        tally.violation(`steady: ${idle?.fds} descriptors when idle, expected ${most} at most`)
      steady.signal('SIGTERM')
      const end = await steady.ended()
      if (end.code !== 0) tally.violation(`steady: after SIGTERM it ended with ${end.code ?? end.signal}`)
      const state = await checkState(steady.stateDir, world, new Set(world.nars.keys()), since)
      for (const fault of state.faults) tally.violation(`steady, on disk: ${fault}`)
      const seconds = (performance.now() - begun) / 1000
      if (!stop.aborted && tally.get('kills') < Math.min(config.kills, (KILLS_PER_MINUTE * seconds) / 60)) {
        tally.violation(
          `${tally.get('kills')} kills in ${Math.round(seconds)} s, expected ${KILLS_PER_MINUTE} a minute`,
        )
      }
      const idleFds = `idle ${idleBefore?.fds} before, ${idle?.fds} after`
      say(formatReport(tally, { seconds, steady: `${grown.told}; ${idleFds}`, got, proxies: stage.proxies }))
    } finally {
      told.stop()
      clients.close()
      others.close()
    }
  } catch (error) {
    if (!stop.aborted)
      tally.violation(`the torture itself failed: ${error instanceof Error ? error.stack : String(error)}`)
  } finally {
    over.abort()
    for (const subject of [mortal, steady, stage.peer]) subject.signal('SIGKILL')
    await Promise.all(stage.proxies.map((proxy) => proxy.close()))
  }
  if (tally.violations.length === 0) return !stop.aborted
  await tally.keep({ mortal: mortal.log(), steady: steady.log(), peer: stage.peer.log() })
  for (const line of tally.violations.slice(0, 20)) say(line)
  say(`${tally.get('violations')} violations; evidence in ${join(dir, 'evidence')}; again: ${deps.again}`)
  return false
}

function progress(tell: () => void, everyMs: number): { stop(): void } {
  const timer = setInterval(tell, everyMs)
  return { stop: () => clearInterval(timer) }
}
