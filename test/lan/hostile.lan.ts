import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { flipBit, PASS, startBadServer } from '../e2e/kit/bad-server.ts'
import type { Deed, Mischief } from '../e2e/kit/bad-server.ts'
import { startNarswarm } from '../e2e/kit/narswarm.ts'
import { openStage } from '../e2e/kit/stage.ts'
import { startCacheServer } from './kit/cache-server.ts'
import { makeClosure, openNixWith } from './kit/closure.ts'
import { openLan } from './kit/lan.ts'
import { openMachine } from './kit/machine.ts'
import { peerAt } from './kit/neighbours.ts'
import { skipWithoutLan } from './kit/skip.ts'

const NAR_BYTES = 24_000_000
const LEAF_BYTES = 1024 * 1024
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
  /** What `peer list` says about it. */
  readonly reason: RegExp
}

const MISCHIEFS: readonly Mischievous[] = [
  {
    title: 'flips a bit',
    mischief: onBytes((body) => ({ do: 'replace', body: flipBit(body) })),
    reason: /./,
  },
  {
    title: 'gives less',
    mischief: onBytes((body) => ({ do: 'replace', body: body.subarray(0, -1000) })),
    reason: /./,
  },
  {
    title: 'gives more',
    mischief: onBytes((body) => ({ do: 'replace', body: Buffer.concat([body, Buffer.alloc(1000)]) })),
    reason: /./,
  },
  { title: 'stalls', mischief: onBytes((body) => ({ do: 'silence', after: body.length >> 1 })), reason: /./ },
  {
    title: 'answers 500 for bytes',
    mischief: (path) => (isBytes(path) ? say(500, 'text/plain', 'no') : PASS),
    reason: /500/,
  },
  { title: 'answers 500 to all', mischief: () => say(500, 'text/plain', 'no'), reason: /500/ },
  { title: 'answers HTML to all', mischief: () => say(200, 'text/html', PAGE), reason: /./ },
  {
    title: 'offers narinfos with another NarHash',
    mischief: onNarInfo((text) => text.replace(/^(NarHash: sha256:)..../m, '$11111')),
    reason: /narinfo/,
  },
  {
    title: 'offers narinfos with another NarSize',
    mischief: onNarInfo((text) => text.replace(/^(NarSize: ).*/m, '$11000')),
    reason: /narinfo/,
  },
  {
    title: 'offers narinfos signed by nobody we know',
    mischief: onNarInfo((text) => text.replace(/^Sig: [^:]*:/m, 'Sig: stranger-1:')),
    reason: /narinfo/,
  },
]

const KINDS = ['a cache', 'a narswarm'] as const

suite('a hostile neighbour', { skip: skipWithoutLan() }, () => {
  for (const kind of KINDS) {
    for (const { title, mischief, reason } of MISCHIEFS) {
      test(`${kind} that ${title}`, async (t) => {
        const stage = await openStage(t)
        const lan = await openLan(stage)
        const closure = await makeClosure(stage, 'one', [NAR_BYTES])
        const { publicKey, top, bytes, dir } = closure
        const badHost = await lan.addHost('bad')
        const original = kind === 'a cache' ? pathToFileURL(dir) : new URL(await startHonest())
        const bad = await startBadServer(stage, original, mischief, (server) =>
          badHost.listen(server, badHost.address),
        )
        // Slow, so that who is near is asked before.
        const away = await lan.addHost('upstream')
        await away.limit({ up: 100 })
        const substituters = [(await startCacheServer(away, dir)).url]
        const settings = { peers: { urls: [bad.url] } }
        const b = await openMachine(stage, await lan.addHost('b'), { publicKey, substituters, settings })

        await b.install([top])
        const cost = await badHost.sentBytes()
        const bound = AROUND * (kind === 'a cache' ? bytes : LEAF_BYTES) + AROUND_BYTES
        const { state, reason: told } = await peerAt(b, badHost)
        t.diagnostic(
          `it cost ${cost} bytes of ${bytes}; ${state}: ${told}; it was asked ${bad.asked.length} times`,
        )
        assert.ok(bad.asked.length > 0, 'it was not asked')
        assert.ok(cost <= bound, `it cost ${cost} bytes, more than ${bound}`)
        assert.notEqual(state, 'ok')
        assert.match(told ?? '', reason)
        await b.narswarm.stop()

        /** On loopback, where the bad one fetches what it then changes. */
        async function startHonest(): Promise<string> {
          const host = await lan.addHost('honest')
          const { root } = await openNixWith(stage, host, closure)
          const honest = await startNarswarm(stage, 'honest', {
            profile: 'pool',
            store_root: root,
            peer: { listen: '127.0.0.1:0' },
            swarm: { listen: [] },
            trust: { keys: [publicKey] },
            share: { keys: [publicKey] },
          })
          const { peer } = await honest.status()
          if (peer === undefined) throw new Error('it shares nothing')
          return peer.url
        }
      })
    }
  }
})
