import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { skipWithoutNix } from '../kit/nix.ts'
import { openBuilder } from './kit/builder.ts'
import { openConsumer } from './kit/consumer.ts'
import type { Consumer } from './kit/consumer.ts'
import { startMeddler } from './kit/meddler.ts'
import type { Meddle, Meddler } from './kit/meddler.ts'
import { addressesOf, startPublisher } from './kit/narswarm.ts'
import type { Narswarm } from './kit/narswarm.ts'
import { openNixMachine } from './kit/nix-machine.ts'
import { serveSlowly } from './kit/slow-cache.ts'
import type { SlowCache } from './kit/slow-cache.ts'
import { openStage } from './kit/stage.ts'

/** To the machine that installs, and to the relay. */
const SLOW_BYTES_PER_S = 1_500_000
const FAST_BYTES_PER_S = 1_000_000_000

test('a relay near the upstream, which has nothing itself', { skip: skipWithoutNix() }, async (t) => {
  const stage = await openStage(t)
  const builder = await openBuilder(stage, 'oldVersion')
  const { publicKey, top: before, also } = builder
  const after = await also('newVersion')
  const wanted = builder.validPaths().find(({ path }) => path === after) ?? assert.fail()
  const cache = join(stage.dir, 'cache')
  await builder.copyTo(`file://${cache}?compression=none`, [before, after])

  interface Result {
    readonly consumer: Consumer
    readonly relay: Narswarm
    readonly front: Meddler
    /** Bytes of NARs. */
    readonly slow: number
    readonly fast: SlowCache['sent']
  }

  /** A machine that has the old version installs the new one. */
  async function upgrade(
    inner: TestContext,
    {
      meddle,
      relaySettings = { upgrade: { relay: true } },
      settings = {},
    }: {
      /** What the relay's answers become on their way. */
      meddle?: (relay: Narswarm, peerUrl: string) => Meddle
      relaySettings?: Record<string, unknown>
      settings?: Record<string, unknown>
    } = {},
  ): Promise<Result> {
    const own = await openStage(inner, stage)
    const [slow, fast] = await Promise.all(
      [SLOW_BYTES_PER_S, FAST_BYTES_PER_S].map((pace) => serveSlowly(own, cache, pace)),
    )
    assert.ok(slow && fast)
    const nowhere = join(own.dir, 'nowhere')
    const relay = await startPublisher(
      own,
      'relay',
      { store_root: nowhere, upstreams: [fast.url], ...relaySettings },
      [publicKey],
    )
    const { peerUrl } = await addressesOf(relay)
    const front = await startMeddler(own, peerUrl, meddle?.(relay, peerUrl))
    const machine = await openNixMachine(own, 'machine')
    const first = await machine.realise([before], { url: `file://${cache}`, publicKey })
    assert.ok(first.ok, first.stderr)
    const consumer = await openConsumer(
      own,
      {
        trust: { keys: [publicKey] },
        share: { keys: [publicKey] },
        upstreams: [slow.url],
        peers: { urls: [front.url] },
        ...settings,
      },
      [],
      machine,
    )
    const begun = Date.now()
    const second = await consumer.realise([after], { url: consumer.url, publicKey, attempts: 1 })
    assert.ok(second.ok, second.stderr)
    await consumer.verify()
    const sent = [...slow.sent.values()].reduce((sum, bytes) => sum + bytes, 0)
    inner.diagnostic(
      `${wanted.narSize} bytes in ${Date.now() - begun} ms, ${sent} of them over the slow line`,
    )
    return { consumer, relay, front, slow: sent, fast: fast.sent }
  }

  async function stopAll({ consumer, relay }: Result): Promise<void> {
    await consumer.narswarm.stop()
    await relay.stop()
  }

  await t.test('gives most of it as differences, and fetches both once', async (inner) => {
    const result = await upgrade(inner)
    const { consumer, relay, front, slow, fast } = result
    assert.ok(slow < wanted.narSize / 2, `${slow} of ${wanted.narSize} bytes from the upstream`)
    const { blocks } = await consumer.narswarm.status()
    const { bytes = 0, wire_bytes: wire = 0 } = blocks.got.by_difference ?? {}
    inner.diagnostic(`${wire} bytes for ${bytes} from the relay`)
    assert.ok(bytes > wanted.narSize / 2 && wire < wanted.narSize / 50, `${wire} for ${bytes}`)
    assert.deepEqual(
      [...fast].map(([, sent]) => sent > 8_000_000 && sent < 9_000_000),
      [true, true],
    )
    const told = (await relay.status()).relay
    assert.deepEqual([told?.nars, told?.bytes_today], [2, 2 * wanted.narSize])
    assert.ok(front.passed.some(({ path, status }) => path.startsWith('/relay/') && status === 200))
    assert.match(await consumer.narswarm.cli('peer', 'list'), /a relay/)
    await stopAll(result)
  })

  const isAnswer = (path: string, body: Buffer): boolean =>
    path.startsWith('/relay/') && body.includes('CID: ')
  const isLeaf = (path: string): boolean => path.startsWith('/ipfs/bafkrei')

  const TROUBLE: Record<string, Parameters<typeof upgrade>[1]> = {
    'is off': { relaySettings: {} },
    'has fetched enough today': {
      relaySettings: { upgrade: { relay: true, relay_max_bytes_per_day: 8_100_000 } },
    },
    'never answers': { meddle: () => (path, body) => (path.startsWith('/relay/') ? 'hang' : body) },
    'dies while it fetches': {
      meddle: (relay) => async (path, body) => {
        if (!path.startsWith('/relay/')) return body
        await relay.kill()
        return 'cut'
      },
    },
    'tells the CID of the old one': {
      meddle: (_, peerUrl) => async (path, body) => {
        if (!isAnswer(path, body)) return body
        const old = await (await fetch(`${peerUrl}/${hashOf(before)}.narinfo`)).text()
        const [cid = ''] = /CID: .*/.exec(old) ?? []
        assert.notEqual(cid, '')
        return Buffer.from(body.toString().replace(/CID: .*/, cid))
      },
    },
    'may not hear of it': { settings: { share: { keys: [] } } },
  }
  for (const [name, trouble] of Object.entries(TROUBLE)) {
    await t.test(`that ${name} changes nothing`, async (inner) => {
      const result = await upgrade(inner, trouble)
      const { consumer, relay, slow } = result
      const [known] = (await consumer.narswarm.peers()).peers
      assert.equal(known?.state === 'out', name.startsWith('tells'), known?.reason)
      // All of it, once, in one piece.
      assert.ok(slow >= wanted.narSize && slow < 1.02 * wanted.narSize, `${slow} of ${wanted.narSize} bytes`)
      assert.equal((await consumer.narswarm.status()).blocks.got.by_difference, undefined)
      await consumer.narswarm.stop()
      await relay.stop()
    })
  }

  await t.test('that dies when it has begun is replaced at that byte', async (inner) => {
    let leaves = 0
    const result = await upgrade(inner, {
      meddle: (relay) => async (path, body) => {
        if (!isLeaf(path) || ++leaves < 4) return body
        await relay.kill()
        return 'cut'
      },
    })
    assert.ok(result.slow < 1.02 * wanted.narSize, `${result.slow} bytes`)
    const { blocks } = await result.consumer.narswarm.status()
    assert.ok((blocks.got.by_difference?.bytes ?? 0) > 1_000_000)
    await stopAll(result)
  })
})

function hashOf(path: string): string {
  return path.replace(/^\/nix\/store\//, '').slice(0, 32)
}
