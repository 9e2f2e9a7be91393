import assert from 'node:assert/strict'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { skipWithoutNix } from '../kit/nix.ts'
import { openBuilder } from './kit/builder.ts'
import { addressesOf, startPublisher } from './kit/narswarm.ts'
import { openConsumer } from './kit/consumer.ts'
import { openStage } from './kit/stage.ts'

test(
  'offline, a neighbour is all that a machine needs: narinfos and NARs',
  { skip: skipWithoutNix() },
  async (t) => {
    const stage = await openStage(t)
    const builder = await openBuilder(stage, 'closure')
    const { top, closure, publicKey } = builder
    const bytes = closure.reduce((sum, { narSize }) => sum + narSize, 0)
    const trust = { keys: [publicKey] }

    // Nothing is published and no feed is followed: A has a store, B knows where A is.
    const neighbour = await startPublisher(stage, 'A', { store_root: builder.root }, [publicKey])
    const empty = await startPublisher(stage, 'E', {}, [publicKey])
    // The worst that an upstream can be: it takes connections and says nothing.
    const silent = createServer((socket) => socket.on('error', () => {}).resume())
    await new Promise<void>((resolve) => {
      silent.listen(0, '127.0.0.1', resolve)
    })
    stage.onEnd(async () => void silent.close())
    const upstreams = [`http://127.0.0.1:${(silent.address() as AddressInfo).port}`, 'http://127.0.0.1:1']

    await t.test('that has the closure', async (t) => {
      const own = await openStage(t, stage)
      const { peerUrl } = await addressesOf(neighbour)
      const consumer = await openConsumer(own, { trust, upstreams, peers: { urls: [peerUrl] } })
      const begun = performance.now()
      const { ok, stderr } = await consumer.realise([top], { url: consumer.url, publicKey })
      const tookMs = performance.now() - begun
      assert.ok(ok, stderr)
      await consumer.verify()
      assert.deepEqual(consumer.validPaths(), closure)
      // Three seconds for each narinfo would be a minute.
      assert.ok(tookMs < 30_000, `it took ${tookMs} ms`)

      const { fetched, sources } = await consumer.narswarm.status()
      assert.equal(fetched.from_upstreams, 0)
      assert.equal(fetched.saved, fetched.bytes)
      assert.deepEqual(fetched.neighbours, [{ id: `neighbour:${peerUrl}`, bytes: fetched.bytes }])
      assert.ok(fetched.bytes >= bytes, `${fetched.bytes} of ${bytes} bytes`)
      assert.deepEqual(
        sources.filter(({ id, lies }) => id.startsWith('neighbour:') && lies > 0),
        [],
      )
      assert.doesNotMatch(consumer.narswarm.log().join('\n'), /a neighbour does not answer/)
      assert.match(
        await consumer.narswarm.cli('status'),
        /fetched .* came from neighbours; upstreams sent 0 B/,
      )
      t.diagnostic(`${closure.length} paths, ${fetched.bytes} bytes in ${Math.round(tookMs)} ms`)
      await consumer.narswarm.stop()
    })

    await t.test('that does not have it: a miss, and a quick one', async (t) => {
      const own = await openStage(t, stage)
      const { peerUrl } = await addressesOf(empty)
      const consumer = await openConsumer(own, { trust, upstreams, peers: { urls: [peerUrl] } })
      const ask = async (): Promise<number> => {
        const begun = performance.now()
        const hash = top.slice('/nix/store/'.length, '/nix/store/'.length + 32)
        const answer = await fetch(new URL(`${hash}.narinfo`, consumer.url), { signal: own.signal })
        await answer.arrayBuffer()
        assert.equal(answer.status, 404)
        return performance.now() - begun
      }
      // Until both upstreams are known to be down.
      const isDown = ({ state }: { state: string }): boolean => state === 'resting'
      for (let i = 0; i < 10 && !(await consumer.narswarm.status()).upstreams.every(isDown); i++) await ask()
      const took = [await ask(), await ask(), await ask()].sort((a, b) => a - b)
      assert.ok((took[0] ?? Infinity) < 500, `misses took ${took.join(', ')} ms`)
      const { ok } = await consumer.realise([top], { url: consumer.url, publicKey })
      assert.equal(ok, false)
      assert.deepEqual(consumer.validPaths(), [])
      await consumer.narswarm.stop()
    })
    await neighbour.stop()
    await empty.stop()
  },
)
