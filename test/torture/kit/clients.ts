/** Clients that behave as Nix does, and some that do not. */
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { NarHash } from '../../../src/nix/hash.ts'
import { encodeNix32 } from '../../../src/nix/nix32.ts'
import { createAsker } from './ask.ts'
import type { Ask } from './ask.ts'
import { judge } from './judge.ts'
import type { Bounds, Exchange, Subject as About, Verdict } from './judge.ts'
import type { Random } from './random.ts'
import type { Subject } from './subject.ts'
import type { Tally } from './tally.ts'
import type { TrueNar, TruePath, World } from './world.ts'

/** Something the narswarm could get a path from. */
export interface Origin {
  calmSince(): number | undefined
  has(path: TruePath): boolean
}

export interface Clients {
  /**
   * Paths whose narinfo went out whole: from then on their NARs are answered for. Not while the disk was full: then an
   * answer is better than none, and its row is written later if at all.
   */
  readonly answered: ReadonlySet<TruePath>
  /** NARs that went out whole. */
  readonly had: ReadonlySet<TrueNar>
  /** NARs that are being asked for now, and by how many. */
  readonly reading: ReadonlyMap<NarHash, number>
  /** Asks and judges, as all clients do. */
  ask(ask: Ask, about: About): Promise<{ exchange: Exchange; verdict: Verdict }>
  /** Nobody asks anything from now on; resolves when the last request has ended. */
  rest(): Promise<void>
  resume(): void
  close(): void
}

/** Nix waits so long before it tries again (filetransfer.cc: 250 ms, doubled, and some jitter). */
const RETRY_MS = 250
const RETRIES_COUNT = 5
/** What a client asks for in a row before it takes a breath. */
const BREATH_MAX_MS = 120
/** A host that has been well for longer than its breaker may rest has no excuse of its own any more. */
const WELL_MS = 32_000

export function startClients(
  count: number,
  deps: {
    subject: Subject
    world: World
    origins: readonly Origin[]
    tally: Tally
    random: Random
    bounds: Bounds
    signal: AbortSignal
  },
): Clients {
  const { subject, world, origins, tally, random, bounds, signal } = deps
  const { publicKey } = world.key
  const answered = new Set<TruePath>()
  const had = new Set<TrueNar>()
  const asker = createAsker(subject, signal)
  const reading = new Map<NarHash, number>()
  let resting: Promise<void> | undefined
  const isResting = (): boolean => resting !== undefined
  let wake = (): void => {}
  let busy = 0
  let quiet = (): void => {}

  async function ask(one: Ask, about: About): Promise<{ exchange: Exchange; verdict: Verdict }> {
    const begun = performance.now()
    const narHash = about.kind === 'nar' ? about.nar?.narHash : undefined
    if (narHash !== undefined) reading.set(narHash, (reading.get(narHash) ?? 0) + 1)
    const exchange = await asker.ask(one)
    if (narHash !== undefined) reading.set(narHash, (reading.get(narHash) ?? 1) - 1)
    const verdict = judge(exchange, about, publicKey, bounds)
    tally.answer(subject, exchange, verdict)
    weigh(exchange, verdict, about, begun)
    return { exchange, verdict }
  }

  /** A 404 is always allowed, but it should not be said when somebody has it and was well all the time. */
  function weigh(exchange: Exchange, verdict: Verdict, about: About, begun: number): void {
    if (about.kind === 'nonsense' || exchange.method === 'HEAD' || exchange.status === 0) return
    if (!exchange.undisturbed || !subject.untroubledSince(begun) || subject.pausedSince(begun) > 0) return
    // Nobody can be asked for a NAR whose narinfo was never told.
    const path = about.kind === 'narinfo' ? about.path : [...answered].find(({ nar }) => nar === about.nar)
    if (path === undefined) return
    const well = (since: number): boolean =>
      origins.some((origin) => (origin.calmSince() ?? Infinity) <= since && origin.has(path))
    const missed = 'outcome' in verdict && verdict.outcome === 'miss'
    for (const [name, since] of [
      ['just', begun],
      ['long', begun - WELL_MS],
    ] as const) {
      if (!well(since)) continue
      tally.count(`${name} helpable`)
      if (missed) tally.count(`${name} unhelpful`)
      if (missed)
        tally.count(`why ${name} ${subject.name} ${about.kind} ${Math.ceil(exchange.headMs / 1000)} s`)
    }
  }

  async function narInfo(path: TruePath, headers?: Record<string, string>): Promise<boolean> {
    const begun = performance.now()
    const { verdict } = await ask(
      { target: `/${path.hashPart}.narinfo`, ...(headers && { headers }) },
      { kind: 'narinfo', path },
    )
    const right = 'outcome' in verdict && verdict.outcome === 'right'
    if (right && subject.untroubledSince(begun)) answered.add(path)
    return right
  }

  /** As curl in Nix: goes on where it was cut, and takes no answer but 206 then. */
  async function nar({ nar }: TruePath, own: Random, how: Partial<Ask> = {}): Promise<void> {
    const target = `/nar/${nar.narHash}.nar`
    let first = 0
    for (let tries = 0; tries < RETRIES_COUNT && !signal.aborted && !isResting(); tries++) {
      const range = first === 0 ? {} : { range: { first } }
      const { exchange, verdict } = await ask(
        { target, truth: nar.bytes, ...range, ...how },
        { kind: 'nar', nar },
      )
      if ('violation' in verdict) return
      if (verdict.outcome === 'right') {
        if (exchange.status === 200) had.add(nar)
        if (first > 0) tally.count('resumed to the end')
        return
      }
      if (verdict.outcome !== 'cut' && verdict.outcome !== 'refused') return
      if (verdict.outcome === 'cut' && exchange.undisturbed) tally.count('cut while up')
      first += exchange.received
      if (first >= nar.bytes.length) first = 0
      await sleep(RETRY_MS * 2 ** tries * (1 + own.next() / 2))
    }
  }

  const unknown = (own: Random): string => encodeNix32(own.bytes(20))

  const deeds: readonly (readonly [number, (own: Random) => Promise<void>])[] = [
    [
      10,
      async (own) => {
        const path = own.pick(world.paths)
        if (!(await narInfo(path))) return
        await sleep(own.int(0, 300))
        await nar(path, own)
      },
    ],
    [2, async (own) => nar(own.pick(world.paths), own, { slowMs: own.int(2, 60) })],
    [3, async (own) => void (await narInfo(own.pick(world.paths)))],
    [
      3,
      async (own) => {
        const path = own.pick(world.paths)
        if (await narInfo(path)) await nar(path, own, { leaveAfter: own.int(1, path.nar.bytes.length) })
      },
    ],
    [
      3,
      async (own) => {
        const { nar } = own.pick(world.paths)
        const first = own.int(0, nar.bytes.length + 10)
        const range = own.chance(0.5) ? { first } : { first, last: first + own.magnitude(1, 3_000_000) }
        const headers = own.chance(0.3) ? { 'If-Range': `"${nar.narHash}"` } : {}
        await ask(
          { target: `/nar/${nar.narHash}.nar`, truth: nar.bytes, range, headers },
          { kind: 'nar', nar },
        )
      },
    ],
    [
      2,
      async (own) => {
        const { nar, hashPart } = own.pick(world.paths)
        const path = world.byHashPart.get(hashPart)
        await ask({ method: 'HEAD', target: `/${hashPart}.narinfo` }, { kind: 'narinfo', path })
        await ask(
          { method: 'HEAD', target: `/nar/${nar.narHash}.nar`, truth: nar.bytes },
          { kind: 'nar', nar },
        )
      },
    ],
    [
      1,
      async (own) => {
        await ask({ target: `/${unknown(own)}.narinfo` }, { kind: 'narinfo', path: undefined })
        const narHash = encodeNix32(own.bytes(32))
        await ask({ target: `/nar/${narHash}.nar` }, { kind: 'nar', nar: undefined })
      },
    ],
    [
      1,
      async (own) => {
        const targets = ['/', '/nix-cache-info', '/healthz', '/nar/x', '/%00', '/../etc/passwd', '/log/x.drv']
        await ask({ target: own.pick([...targets, `/${'a'.repeat(5000)}`]) }, { kind: 'nonsense' })
        await nonsense(subject, own, tally)
      },
    ],
  ]

  async function client(own: Random): Promise<void> {
    while (!signal.aborted) {
      if (resting !== undefined) await resting
      busy += 1
      try {
        if (subject.url() !== undefined) await own.weighted(deeds)(own)
      } finally {
        busy -= 1
        if (busy === 0) quiet()
      }
      await sleep(own.int(1, BREATH_MAX_MS))
    }
  }
  for (let at = 0; at < count; at++) void client(random.fork(`client ${at}`))

  return {
    answered,
    had,
    reading,
    ask,
    async rest() {
      resting ??= new Promise((resolve) => (wake = resolve))
      if (busy > 0) await new Promise<void>((resolve) => (quiet = resolve))
    },
    resume() {
      resting = undefined
      wake()
    },
    close: () => asker.close(),
  }
}

const NONSENSE = [
  'GET / HTTP/1.1\r\n\r\n',
  'GET /nix-cache-info HTTP/1.0\r\n\r\n',
  'PUT /x.narinfo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc',
  'GET /nix-cache-info HTTP/1.1\r\nHost: evil.example\r\n\r\n',
  'GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
  '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03',
  'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
  `GET / HTTP/1.1\r\nHost: localhost\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`,
  'GET /half',
]

/** Bytes that are hardly HTTP: no answer is right, and so is any but a fault of the server's. */
async function nonsense(subject: Subject, own: Random, tally: Tally): Promise<void> {
  const port = Number(new URL(subject.url() ?? 'http://127.0.0.1:1').port)
  const text = own.chance(0.3) ? own.bytes(200) : own.pick(NONSENSE)
  const told = await new Promise<string>((resolve) => {
    let heard = ''
    const socket = connect(port, '127.0.0.1', () => socket.write(text))
    socket.setTimeout(1_000, () => socket.destroy())
    socket.on('data', (bytes) => (heard = (heard + bytes.toString('latin1')).slice(0, 500)))
    socket.on('error', () => {})
    socket.on('close', () => resolve(heard))
  })
  tally.count('nonsense')
  if (/^HTTP\/1\.1 (?:5|429)/.test(told)) {
    tally.violation(`${subject.name}: ${told.split('\r\n', 1)[0]} to nonsense`, { text: text.toString() })
  }
}
