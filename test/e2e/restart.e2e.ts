import assert from 'node:assert/strict'
import { test } from 'node:test'
import { skipWithoutNix } from '../kit/nix.ts'
import { PASS, startBadServer } from './kit/bad-server.ts'
import { openBuilder } from './kit/builder.ts'
import { createGate } from './kit/gate.ts'
import { addressesOf, hasFeeds, publishFeed, startNarswarm, startPublisher } from './kit/narswarm.ts'
import { openNixMachine } from './kit/nix-machine.ts'
import { openStage } from './kit/stage.ts'

/** Of some 190. */
const BLOCKS_BEFORE = 100

test(
  'a narswarm killed in the middle of a NAR goes on where it was',
  { skip: skipWithoutNix() },
  async (t) => {
    const stage = await openStage(t)
    const builder = await openBuilder(stage, 'large')
    const { top, closure, publicKey } = builder
    const narSize = closure[0]?.narSize ?? 0

    const publisher = await startPublisher(stage, 'A', { store_root: builder.root }, [publicKey])
    const { feed, size } = await publishFeed(publisher, 'e2e.narswarm.invalid/main', top)
    const { peerUrl } = await addressesOf(publisher)

    const gate = createGate(BLOCKS_BEFORE)
    const peer = await startBadServer(stage, new URL(peerUrl), async () => {
      await gate.pass()
      return PASS
    })

    const machine = await openNixMachine(stage, 'machine')
    const settings = {
      store_root: machine.root,
      trust: { keys: [publicKey] },
      feed: [feed],
      peers: { urls: [peer.url] },
    }
    const consumer = await startNarswarm(stage, 'B', settings)
    const { cache } = await consumer.until(hasFeeds(size))

    const installed = machine.realise([top], { url: cache.url, publicKey })
    await gate.full
    await consumer.kill()
    gate.open()
    // On the same port: it is the same Nix, still trying, and it has its narinfo already.
    await consumer.start({ cache: { listen: new URL(cache.url).host } })

    const { ok, stderr } = await installed
    assert.ok(ok, stderr)
    assert.match(stderr, /retrying from offset [1-9]/)
    await machine.verify()
    assert.deepEqual(machine.validPaths(), closure)

    const bytes = (await consumer.status()).sources.reduce((sum, source) => sum + source.bytes, 0)
    assert.ok(bytes < narSize, `expected less than ${narSize} bytes to be fetched again, got ${bytes}`)
    t.diagnostic(`${bytes} of ${narSize} bytes after the restart`)
    await consumer.stop()
    await publisher.stop()
  },
)
