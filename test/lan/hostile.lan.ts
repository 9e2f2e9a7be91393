import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { flipBit, PASS, startBadServer } from '../e2e/kit/bad-server.ts'
import type { Deed, Mischief } from '../e2e/kit/bad-server.ts'
import { addressesOf, startPublisher } from '../e2e/kit/narswarm.ts'
import type { Narswarm } from '../e2e/kit/narswarm.ts'
import type { NixMachine } from '../e2e/kit/nix-machine.ts'
import { openStage } from '../e2e/kit/stage.ts'
import type { Stage } from '../e2e/kit/stage.ts'
import { startCacheServer } from './kit/cache-server.ts'
import { makeClosure, openNixWith, pathOf } from './kit/closure.ts'
import { openLan } from './kit/lan.ts'
import type { Host } from './kit/lan.ts'
import { openMachine, untilIndexed } from './kit/machine.ts'
import { peerAt, untilState, watchPeer } from './kit/neighbours.ts'
import { skipWithoutLan } from './kit/skip.ts'

const NAR_BYTES = 24_000_000
const LARGE_NAR_BYTES = 48_000_000
const LEAF_BYTES = 1024 * 1024
/** Of an interior node. */
const NODE_MAX_BYTES = 64 * 1024
const LINK_MBIT = 100
/** Far away: whoever is near has answered before. */
const UPSTREAM_MS = 500
const LATER_NARS = 4
/** A probe takes 5 s. */
const TOLD_LATER_MS = 15_000
/** Of the frames and headers around it, and what was asked before it was known to lie: narinfos, a root. */
const AROUND = 1.1
const AROUND_BYTES = 256 * 1024

const isBytes = (path: string): boolean => /^(?:nar|ipfs)\//.test(path)
const isNarInfo = (path: string): boolean => path.endsWith('.narinfo')
const say = (status: number, type: string, body: string): Deed => ({
  do: 'say',
  status,
  type,
  body: Buffer.from(body),
})
const PAGE = '<!doctype html><title>Sign in to the network</title>'
const onBytes =
  (deed: (body: Uint8Array) => Deed): Mischief =>
  (path, body) =>
    isBytes(path) && body.length > 0 ? deed(body) : PASS
const onNarInfo =
  (change: (text: string) => string): Mischief =>
  (path, body) =>
    isNarInfo(path) && body.length > 0
      ? { do: 'replace', body: Buffer.from(change(Buffer.from(body).toString())) }
      : PASS

interface Mischievous {
  readonly title: string
  readonly mischief: Mischief
  /** What `peer list` says about it at some time, as `state: reason`. */
  readonly told: RegExp
  /** Told within some NARs: one request that hung is no proof, and one that is not asked again has no second one. */
  readonly toldLater?: true
}

const MISCHIEFS: readonly Mischievous[] = [
  {
    title: 'flips a bit',
    mischief: onBytes((body) => ({ do: 'replace', body: flipBit(body) })),
    told: /^out: .*(?:hashes to|another sha256)/,
  },
  {
    title: 'flips a bit of each leaf, and its interior nodes are right',
    mischief: onBytes((body) => (body.length < LEAF_BYTES ? PASS : { do: 'replace', body: flipBit(body) })),
    told: /^out: ./,
  },
  {
    title: 'gives less',
    mischief: onBytes((body) => ({ do: 'replace', body: body.subarray(0, -1000) })),
    told: /^(?:out|resting): ./,
  },
  {
    title: 'gives more',
    mischief: onBytes((body) => ({ do: 'replace', body: Buffer.concat([body, Buffer.alloc(1000)]) })),
    told: /^(?:out|resting): ./,
  },
  {
    title: 'stalls',
    mischief: onBytes((body) => ({ do: 'silence', after: body.length >> 1 })),
    told: /^resting: ./,
    toldLater: true,
  },
  {
    title: 'stalls in the middle of each leaf, and gives interior nodes',
    mischief: onBytes((body) =>
      body.length < NODE_MAX_BYTES ? PASS : { do: 'silence', after: body.length >> 1 },
    ),
    told: /^resting: ./,
    toldLater: true,
  },
  {
    title: 'answers 500 for bytes',
    mischief: onBytes(() => say(500, 'text/plain', 'no')),
    told: /^resting: .*500/,
  },
  { title: 'answers 500 to all', mischief: () => say(500, 'text/plain', 'no'), told: /^resting: .*500/ },
  { title: 'answers HTML to all', mischief: () => say(200, 'text/html', PAGE), told: /^resting: .*doctype/ },
  {
    title: 'offers narinfos with another NarHash',
    mischief: onNarInfo((text) => text.replace(/^(NarHash: sha256:)..../m, '$11111')),
    told: /^out: narinfo .*refused/,
  },
  {
    title: 'offers narinfos with another NarSize',
    mischief: onNarInfo((text) => text.replace(/^(NarSize: ).*/m, '$11000')),
    told: /^out: narinfo .*refused/,
  },
  {
    title: 'offers narinfos signed by nobody whom we know, which is no lie',
    mischief: onNarInfo((text) => text.replace(/^Sig: [^:]*:/m, 'Sig: stranger-1:')),
    told: /^ok: $/,
  },
]

/** With an honest one beside it the blocks of a NAR are known, and each of them is checked. */
const KINDS = ['cache', 'narswarm beside an honest one'] as const

suite('a hostile neighbour', { skip: skipWithoutLan() }, () => {
  for (const kind of KINDS) {
    for (const { title, mischief, told, toldLater = false } of MISCHIEFS) {
      test(`a ${kind}: it ${title}`, async (t) => {
        const stage = await openStage(t)
        const lan = await openLan(stage)
        const closure = await makeClosure(
          stage,
          'one',
          Array<number>(toldLater ? LATER_NARS : 1).fill(NAR_BYTES),
        )
        const { publicKey, dir } = closure
        const honest = kind === 'cache' ? undefined : await lan.addHost('good')
        const badHost = await lan.addHost('bad')
        const original = honest === undefined ? pathToFileURL(dir) : new URL(await startHonest(honest))
        const bad = await startBadServer(stage, original, mischief, (server) =>
          badHost.listen(server, badHost.address),
        )
        // Whoever is honest is slow, so that the other one would have its part.
        const away = await lan.addHost('upstream')
        await away.limit({ up: LINK_MBIT })
        const substituters = [(await startCacheServer(away, dir, UPSTREAM_MS)).url]
        const settings = { peers: { urls: [bad.url] } }
        const b = await openMachine(stage, await lan.addHost('b'), { publicKey, substituters, settings })
        if (honest !== undefined) await untilState(b, honest, 'ok', stage.signal)

        const watch = watchPeer(b, badHost)
        // One NAR after the other.
        const isTold = (): boolean => [...watch.seen].some((one) => told.test(one))
        let bytes = 0
        for (const nar of closure.nars.toReversed()) {
          if (isTold()) break
          bytes += nar.narSize
          await b.install([pathOf(nar)])
        }
        if (toldLater) await watch.until(told, TOLD_LATER_MS)
        await watch.stop()
        const { sources } = await b.narswarm.status()
        // Leaves that it gave were checked one by one, and are of use.
        const useful = sources.find(({ id }) => id === `neighbour:${bad.url}`)?.bytes ?? 0
        const cost = (await badHost.sentBytes()) - useful
        // Three requests that hang in the middle of a leaf.
        const leaves = toldLater ? 1.5 : 1
        const bound = AROUND * (honest === undefined ? bytes : leaves * LEAF_BYTES) + AROUND_BYTES
        t.diagnostic(
          `it cost ${cost} bytes of ${bytes}; it was asked ${bad.asked.length} times; ${[...watch.seen].join('; ')}`,
        )
        t.diagnostic(JSON.stringify(sources.map(({ id, bytes, lies }) => ({ id, bytes, lies }))))
        assert.ok(bad.asked.length > 0, 'it was not asked')
        assert.ok(isTold(), `expected ${String(told)}, got ${[...watch.seen].join('; ')}`)
        assert.ok(cost <= bound, `it cost ${cost} bytes, more than ${bound}`)
        await b.narswarm.stop()

        /** A neighbour of B, and another one on loopback where the bad one fetches what it then changes. */
        async function startHonest(host: Host): Promise<string> {
          await host.limit({ up: LINK_MBIT })
          const nix = await openNixWith(stage, host, closure)
          await untilIndexed(await openMachine(stage, host, { publicKey, nix }))
          const { narswarm, peerUrl } = await startSharing(stage, { publicKey, nix })
          await untilIndexed({ narswarm })
          return peerUrl
        }
      })
    }
  }
})

test(
  'a cache that flips a bit of a NAR too large to be held back: Nix turns to its next substituter',
  { skip: skipWithoutLan() },
  async (t) => {
    const stage = await openStage(t)
    const lan = await openLan(stage)
    const { publicKey, top, dir } = await makeClosure(stage, 'large', [LARGE_NAR_BYTES])
    const badHost = await lan.addHost('bad')
    const flip = onBytes((body) => ({ do: 'replace', body: flipBit(body) }))
    const bad = await startBadServer(stage, pathToFileURL(dir), flip, (server) =>
      badHost.listen(server, badHost.address),
    )
    const upstream = (await startCacheServer(await lan.addHost('upstream'), dir, UPSTREAM_MS)).url
    const settings = { peers: { urls: [bad.url] } }
    const b = await openMachine(stage, await lan.addHost('b'), {
      publicKey,
      substituters: [upstream],
      settings,
    })
    await b.install([top], `${b.url}?priority=1 ${upstream}?priority=2`)
    assert.equal(b.validPaths().length, 1)
    const { state, reason } = await peerAt(b, badHost)
    assert.equal(state, 'out')
    assert.match(reason ?? '', /hashes to/)
    await b.narswarm.stop()
  },
)

async function startSharing(
  stage: Stage,
  { publicKey, nix }: { publicKey: string; nix: NixMachine },
): Promise<{ narswarm: Narswarm; peerUrl: string }> {
  const keys = [publicKey]
  const narswarm = await startPublisher(stage, 'original', { store_root: nix.root }, keys)
  return { narswarm, peerUrl: (await addressesOf(narswarm)).peerUrl }
}
