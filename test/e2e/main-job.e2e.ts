import assert from 'node:assert/strict'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { skipWithoutNix } from '../kit/nix.ts'
import { KEY_NAME, openBuilder } from './kit/builder.ts'
import { addressesOf, hasFeeds, publishFeed, startNarswarm, startPublisher } from './kit/narswarm.ts'
import { openNixMachine } from './kit/nix-machine.ts'
import { openStage } from './kit/stage.ts'

test('a real Nix installs what another machine built', { skip: skipWithoutNix() }, async (t) => {
  const stage = await openStage(t)
  const builder = await openBuilder(stage, 'closure')
  const { top, closure, publicKey } = builder
  assert.ok(closure.length >= 20, `expected a closure of at least 20 paths, got ${closure.length}`)
  assert.ok(closure.every(({ sigs }) => sigs.startsWith(`${KEY_NAME}:`)))
  const bytes = closure.reduce((sum, { narSize }) => sum + narSize, 0)

  const publisher = await startPublisher(stage, 'A', { store_root: builder.root }, [publicKey])
  const { feed, size } = await publishFeed(publisher, 'e2e.narswarm.invalid/main', top)
  assert.equal(size, closure.length)
  const { peerUrl, addrs } = await addressesOf(publisher)

  const cache = join(stage.dir, 'cache')
  // The lowest level: what is tested is that we undo xz, not how well Nix does it.
  await builder.copyTo(`file://${cache}?compression=xz&compression-level=0`, [top])

  const ways = [
    { title: 'over bitswap alone', source: /^bitswap:/, feeds: [feed], settings: { peers: { addrs } } },
    {
      title: 'over the HTTP gateway alone',
      source: /^neighbour:/,
      feeds: [feed],
      settings: { peers: { urls: [peerUrl] } },
    },
    {
      title: 'from a folder cache as upstream alone',
      source: /^upstream:file:/,
      feeds: [],
      settings: { upstreams: [`file://${cache}`] },
    },
  ]
  for (const { title, source, feeds, settings } of ways) {
    await t.test(title, async (t) => {
      const own = await openStage(t, stage)
      const machine = await openNixMachine(own, 'machine')
      const consumer = await startNarswarm(own, 'B', {
        store_root: machine.root,
        trust: { keys: [publicKey] },
        feed: feeds,
        ...settings,
      })
      const status = await consumer.until(hasFeeds(...feeds.map(() => size)))

      const { ok, stderr } = await machine.realise([top], { url: status.cache.url, publicKey })
      assert.ok(ok, stderr)
      await machine.verify()
      assert.deepEqual(machine.validPaths(), closure)

      // A neighbour whose blocks are late gives the whole NAR, as another source of the same one.
      const { sources } = await consumer.status()
      for (const { id, lies } of sources) {
        assert.match(id, source)
        assert.equal(lies, 0)
      }
      assert.ok(sources.some(({ id, bytes }) => bytes > 0 && !id.endsWith('/nar')))
      const came = sources.reduce((sum, one) => sum + one.bytes, 0)
      assert.ok(came >= bytes, `expected ${bytes} bytes, got ${came}`)
      t.diagnostic(
        `${closure.length} paths; ${sources.map((one) => `${one.bytes} bytes from ${one.id}`).join(', ')}`,
      )
      await consumer.stop()
    })
  }

  // What the store has is served from there, and takes no second place on disk (P5).
  const { spool } = await publisher.status()
  assert.deepEqual([spool.nars, spool.bytes], [0, 0])
  assert.equal(await bytesIn(join(publisher.stateDir, 'spool')), 0)
  await publisher.stop()
})

/** Of all files below it. */
async function bytesIn(dir: string): Promise<number> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true })
  const files = entries.filter((entry) => entry.isFile())
  const sizes = await Promise.all(
    files.map(async ({ parentPath, name }) => (await stat(join(parentPath, name))).size),
  )
  return sizes.reduce((sum, size) => sum + size, 0)
}
