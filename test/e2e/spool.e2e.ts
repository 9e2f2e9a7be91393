import assert from 'node:assert/strict'
import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { skipWithoutNix } from '../kit/nix.ts'
import { openBuilder } from './kit/builder.ts'
import { addressesOf, hasFeeds, publishFeed, startNarswarm, startPublisher } from './kit/narswarm.ts'
import { openNixMachine } from './kit/nix-machine.ts'
import { openStage } from './kit/stage.ts'

test(
  'what Nix has imported leaves the spool and is shared from the store; damaged databases are told',
  { skip: skipWithoutNix() },
  async (t) => {
    const stage = await openStage(t)
    const builder = await openBuilder(stage, 'closure')
    const { top, closure, publicKey } = builder

    const first = await startPublisher(stage, 'A', { store_root: builder.root }, [publicKey])
    const { feed, size } = await publishFeed(first, 'e2e.narswarm.invalid/main', top)
    const machine = await openNixMachine(stage, 'machine-b')
    const second = await startPublisher(
      stage,
      'B',
      {
        store_root: machine.root,
        feed: [feed],
        peers: { urls: [(await addressesOf(first)).peerUrl] },
        upstreams: [],
      },
      [publicKey],
    )
    const { cache } = await second.until(hasFeeds(size))
    const { ok, stderr } = await machine.realise([top], { url: cache.url, publicKey })
    assert.ok(ok, stderr)
    const { spool } = await second.until((status) => status.spool.nars === 0)
    assert.equal(spool.evicted, closure.length)
    const files = await readdir(join(second.stateDir, 'spool'), { recursive: true })
    assert.deepEqual(
      files.filter((name) => name.endsWith('.nar')),
      [],
    )
    assert.match(await second.cli('verify', top), /: good\n/)
    assert.equal(await second.cli('verify', '--spool'), 'spool: 0 NARs, 0 B: good\n')

    const third = await openNixMachine(stage, 'machine-c')
    const consumer = await startNarswarm(stage, 'C', {
      store_root: third.root,
      trust: { keys: [publicKey] },
      feed: [feed],
      peers: { urls: [(await addressesOf(second)).peerUrl] },
      upstreams: [],
    })
    const status = await consumer.until(hasFeeds(size))
    await first.stop()
    const installed = await third.realise([top], { url: status.cache.url, publicKey })
    assert.ok(installed.ok, installed.stderr)
    await third.verify()
    assert.deepEqual(third.validPaths(), closure)

    // Rows can be found again: the store still has the bytes.
    await consumer.stop()
    await writeFile(join(consumer.stateDir, 'state.sqlite'), 'not a database. '.repeat(1000))
    await consumer.start()
    assert.ok(consumer.log().some((line) => /was moved to .*state\.sqlite\.damaged/.test(line)))
    assert.match(await consumer.cli('verify', top), /: good\n/)

    // What keeps feeds from going back cannot.
    await consumer.stop()
    await writeFile(join(consumer.stateDir, 'feeds.sqlite'), 'not a database. '.repeat(1000))
    await assert.rejects(consumer.start(), /feeds\.sqlite: damaged .*restore it from a backup/)
    await second.stop()
  },
)
