import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { skipWithoutNix } from '../kit/nix.ts'
import { flipByte } from './kit/flip-byte.ts'
import { openBuilder } from './kit/builder.ts'
import { openConsumer } from './kit/consumer.ts'
import type { Consumer } from './kit/consumer.ts'
import { addressesOf, startPublisher } from './kit/narswarm.ts'
import { startSlowLink } from './kit/slow-link.ts'
import { openNixMachine } from './kit/nix-machine.ts'
import { openStage } from './kit/stage.ts'

/** 100 Mbit/s. */
const LINK_BYTES_PER_S = 12_500_000

test('a new version from a peer that has the old one, too', { skip: skipWithoutNix() }, async (t) => {
  const stage = await openStage(t)
  const builder = await openBuilder(stage, 'oldVersion')
  const { publicKey, top: before, also } = builder
  const after = await also('newVersion')
  const wanted = builder.validPaths().find(({ path }) => path === after) ?? assert.fail()
  const publisher = await startPublisher(stage, 'peer', { store_root: builder.root }, [publicKey])
  await publisher.until(({ store }) => store?.to_go === 0)
  const { peerUrl } = await addressesOf(publisher)

  /** Installs both, one after the other; what `flip` does between them is undone after. @returns bytes that came for the second */
  async function upgrade(
    settings: Record<string, unknown>,
    flip: (consumer: Consumer) => Promise<void> = async () => {},
  ): Promise<{ consumer: Consumer; carried: number }> {
    const inner = await openStage(t, stage)
    const link = await startSlowLink(inner, peerUrl, LINK_BYTES_PER_S)
    const consumer = await openConsumer(inner, {
      trust: { keys: [publicKey] },
      peers: { urls: [link.url] },
      ...settings,
    })
    const from = { url: consumer.url, publicKey }
    const first = await consumer.realise([before], from)
    assert.ok(first.ok, first.stderr)
    // From now on the old one is nowhere but in the store.
    await consumer.narswarm.until(({ spool }) => spool.nars === 0)
    await flip(consumer)
    const carried = link.carried()
    const second = await consumer.realise([after], from)
    assert.ok(second.ok, second.stderr)
    await flip(consumer)
    await consumer.verify()
    return { consumer, carried: link.carried() - carried }
  }

  await t.test('moves what differs', async (inner) => {
    const { consumer, carried } = await upgrade({ share: { keys: [publicKey] } })
    inner.diagnostic(`${carried} bytes for ${wanted.narSize}`)
    assert.ok(carried < wanted.narSize / 50, `${carried} of ${wanted.narSize} bytes`)
    const { blocks } = await consumer.narswarm.status()
    const { bytes = 0, wire_bytes: wire = 0 } = blocks.got.by_difference ?? {}
    assert.ok(bytes > wanted.narSize * 0.9 && wire < wanted.narSize / 50, `${wire} for ${bytes}`)
    assert.match(await consumer.narswarm.cli('status'), /as the difference from what was there/)
    assert.deepEqual((await publisher.status()).blocks.given.by_difference, blocks.got.by_difference)
    await consumer.narswarm.stop()
  })

  await t.test(
    'moves what differs from what was here before narswarm, too, which is in no index',
    async (inner) => {
      const own = await openStage(inner, stage)
      const link = await startSlowLink(own, peerUrl, LINK_BYTES_PER_S)
      const nix = await openNixMachine(own, 'machine')
      const first = await nix.realise([before], { url: peerUrl, publicKey })
      assert.ok(first.ok, first.stderr)
      const keys = [publicKey]
      const settings = { trust: { keys }, share: { keys }, peers: { urls: [link.url] } }
      const consumer = await openConsumer(own, settings, [], nix)
      const second = await consumer.realise([after], { url: consumer.url, publicKey })
      assert.ok(second.ok, second.stderr)
      await consumer.verify()
      inner.diagnostic(`${link.carried()} bytes for ${wanted.narSize}`)
      assert.ok(link.carried() < wanted.narSize / 50, `${link.carried()} of ${wanted.narSize} bytes`)
      await consumer.narswarm.stop()
    },
  )

  await t.test('comes whole where others are not to know of the old one', async () => {
    const { consumer, carried } = await upgrade({})
    assert.ok(carried > wanted.narSize, `${carried} of ${wanted.narSize} bytes`)
    assert.equal((await consumer.narswarm.status()).blocks.got.by_difference, undefined)
    await consumer.narswarm.stop()
  })

  await t.test('comes right where a file of the old one has changed', async () => {
    const { consumer, carried } = await upgrade({ share: { keys: [publicKey] } }, ({ root }) =>
      flipByte(join(root, before, 'share/data'), 3_500_000),
    )
    // The leaf that has changed is no dictionary any more, nor is any other of that NAR.
    assert.ok(carried > 1_000_000, `${carried} of ${wanted.narSize} bytes`)
    const { sources } = await consumer.narswarm.status()
    assert.deepEqual(
      sources.filter(({ lies }) => lies > 0),
      [],
    )
    await consumer.narswarm.stop()
  })
})
