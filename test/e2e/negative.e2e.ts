import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { cp, readdir, readFile, stat, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { rawCid } from '../../src/dag/cid.ts'
import { LEAF_BYTES } from '../../src/dag/profile.ts'
import { formatPublicKey, generateSecretKey } from '../../src/nix/key.ts'
import { parseNarInfo } from '../../src/nix/narinfo.ts'
import { hashPartOf, parseStorePath } from '../../src/nix/store-path.ts'
import { skipWithoutNix } from '../kit/nix.ts'
import { flipBit, PASS, startBadServer } from './kit/bad-server.ts'
import type { Deed, Mischief } from './kit/bad-server.ts'
import { KEY_NAME, openBuilder } from './kit/builder.ts'
import { assertInstalled, assertRefused, openConsumer } from './kit/consumer.ts'
import type { Consumer } from './kit/consumer.ts'
import { makeLyingFeed } from './kit/lying-feed.ts'
import { addressesOf, hasFeeds, publishFeed, startPublisher } from './kit/narswarm.ts'
import { openStage } from './kit/stage.ts'
import type { Stage } from './kit/stage.ts'

const STORE_DIR = '/nix/store'

test('nothing wrong gets into the store', { skip: skipWithoutNix() }, async (t) => {
  const stage = await openStage(t)
  const builder = await openBuilder(stage, 'mediums')
  const { top, closure, publicKey } = builder
  const named = (name: string): (typeof closure)[number] => {
    const found = closure.find(({ path }) => path.endsWith(name))
    if (found === undefined) throw new Error(`no ${name} was built`)
    return found
  }
  const [medium, sameSize, otherSize] = [named('-medium-1.0'), named('-same-size'), named('-other-size')]
  assert.equal(sameSize.narSize, medium.narSize)
  assert.notEqual(otherSize.narSize, medium.narSize)
  const wanted = { path: medium, publicKey }
  const trust = { keys: [publicKey] }

  const honest = await startPublisher(stage, 'honest', { store_root: builder.root }, [publicKey])
  const { feed, size, cids } = await publishFeed(honest, 'honest.narswarm.invalid/main', top)
  const { peerUrl, addrs } = await addressesOf(honest)
  const cidOf = ({ path }: typeof medium): string => cids.get(parseStorePath(path, STORE_DIR)) ?? 'no CID'

  const cache = join(stage.dir, 'cache')
  await builder.copyTo(`file://${cache}?compression=none`, [top])
  const compressed = join(stage.dir, 'compressed')
  await builder.copyTo(`file://${compressed}?compression=xz&compression-level=0`, [medium.path])
  const goodCache = pathToFileURL(cache).href
  const narInfoFile = join(cache, `${hashPartOf(parseStorePath(medium.path, STORE_DIR))}.narinfo`)
  const info = parseNarInfo(await readFile(narInfoFile, 'utf8'), STORE_DIR)
  const nar = await readFile(join(cache, info.url))
  const firstLeaf = rawCid(createHash('sha256').update(nar.subarray(0, LEAF_BYTES)).digest()).toString()

  const strangers = [
    { title: 'a key that is not trusted', name: 'other-1' },
    { title: 'another key of the trusted name', name: KEY_NAME },
  ]
  for (const { title, name } of strangers) {
    const keys = [formatPublicKey(generateSecretKey(name, randomBytes).publicKey)]
    const told = new RegExp(`narinfo of \\S+ refused: expected 1 good signature by ${name}, got 0`)
    await t.test(`a narinfo signed by ${title}, from a feed`, async (t) => {
      const settings = { trust: { keys }, feed: [feed], peers: { addrs } }
      await assertRefused(t, await openConsumer(await openStage(t, stage), settings, [size]), wanted, told)
    })
    await t.test(`a narinfo signed by ${title}, from an upstream`, async (t) => {
      const settings = { trust: { keys }, upstreams: [goodCache] }
      await assertRefused(t, await openConsumer(await openStage(t, stage), settings), wanted, told)
    })
  }

  await t.test('a feed entry with the CID of a NAR of another size', async (t) => {
    const told = new RegExp(
      `a source of the NAR failed.* expected a filesize of ${medium.narSize}, got ${otherSize.narSize}`,
    )
    await t.test('alone', async (t) => {
      const own = await openStage(t, stage)
      const { url } = await startBadServer(own, new URL(peerUrl), blocksAlone(PASS_ALL))
      const peers = { urls: [url] }
      const lies = await makeLyingFeed(own, info, cidOf(otherSize))
      await assertRefused(t, await openConsumer(own, { trust, feed: [lies], peers }, [1]), wanted, told)
    })
    await t.test('beside an honest feed', async (t) => {
      const own = await openStage(t, stage)
      const lies = await makeLyingFeed(own, info, cidOf(otherSize))
      const peers = { urls: [peerUrl] }
      const consumer = await openConsumer(own, { trust, feed: [lies, feed], peers }, [1, size])
      await assertInstalled(t, consumer, wanted, told)
    })
    await t.test('beside a neighbour that has the NAR', async (t) => {
      const own = await openStage(t, stage)
      const lies = await makeLyingFeed(own, info, cidOf(otherSize))
      const consumer = await openConsumer(own, { trust, feed: [lies], peers: { urls: [peerUrl] } }, [1])
      await assertInstalled(t, consumer, wanted, told)
    })
  })

  await t.test('a feed entry with the CID of another NAR of the same size', async (t) => {
    const told = /NAR thrown away: bytes from blocks:\S+ hash to \S+, signed is \S+/
    const peers = { urls: [peerUrl] }
    await t.test('alone', async (t) => {
      const own = await openStage(t, stage)
      const lies = await makeLyingFeed(own, info, cidOf(sameSize))
      await assertRefused(t, await openConsumer(own, { trust, feed: [lies], peers }, [1]), wanted, told)
    })
    await t.test('beside an honest feed', async (t) => {
      const own = await openStage(t, stage)
      const lies = await makeLyingFeed(own, info, cidOf(sameSize))
      const consumer = await openConsumer(own, { trust, feed: [lies, feed], peers }, [1, size])
      // Two roots were told, so nothing went out before the NarHash was proved: Nix sees one whole answer.
      await assertInstalled(t, consumer, wanted, told)
    })
  })

  await t.test('a feed entry with the CID of another NAR, audited', async (t) => {
    const own = await openStage(t, stage)
    const lies = await makeLyingFeed(own, info, cidOf(sameSize))
    const settings = { trust, upstreams: [goodCache], feed: [lies] }
    const { narswarm } = await openConsumer(own, settings, [1])
    // By itself, at once when it is started with a feed that is here.
    await narswarm.stop()
    await narswarm.start({ audit: { max_bytes_per_day: '1GiB' } })
    const { audit, spool } = await narswarm.until((status) => status.audit.wrong === 1)
    assert.equal(audit.bytes_today, medium.narSize)
    assert.deepEqual(
      audit.bad.map((bad) => [bad.feed, bad.told, bad.computed]),
      [[lies.name, cidOf(sameSize), cidOf(medium)]],
    )
    assert.equal(spool.nars, 0)
    assert.ok(narswarm.log().some((line) => line.startsWith('error ') && line.includes('is wrong about')))

    await narswarm.kill()
    await narswarm.start({ feed: [lies, feed] })
    await narswarm.until(hasFeeds(1, size))
    await assert.rejects(narswarm.cli('verify', '--feed', lies.name, '--all'), (error: unknown) => {
      const { code, stdout } = error as { code: number; stdout: string }
      assert.match(stdout, new RegExp(`^WRONG .* is ${cidOf(medium)}$`, 'm'))
      return code === 3
    })
    const lines = (await narswarm.cli('verify', '--feed', feed.name, '--all', '--json')).trim().split('\n')
    const done = JSON.parse(lines.at(-1) ?? '') as { right: number; wrong: number }
    assert.deepEqual([done.right, done.wrong], [size, 0])
    await narswarm.stop()
  })

  /** Bad in each block, or in each leaf but the first. */
  const inEach = (deed: (block: Uint8Array) => Deed): Mischief => {
    return (path, body) => (path.startsWith('ipfs/') ? deed(body) : PASS)
  }
  const inLater = (deed: (leaf: Uint8Array) => Deed): Mischief => {
    const spared = [cidOf(medium), firstLeaf]
    return (path, body) =>
      path.startsWith('ipfs/') && !spared.some((cid) => path.includes(cid)) ? deed(body) : PASS
  }
  const flip = (block: Uint8Array): Deed => ({ do: 'replace', body: flipBit(block) })
  const stop = (block: Uint8Array): Deed => ({ do: 'silence', after: block.length >> 1 })
  const late = /no source gave the NAR: answered 404 .*no verified byte within/
  const badPeers = [
    {
      title: 'flips a bit of each block',
      mischief: inEach(flip),
      alone: /gave wrong bytes and is out: node \S+ at NAR byte 0/,
    },
    {
      title: 'flips a bit of later blocks',
      mischief: inLater(flip),
      alone: /gave wrong bytes and is out: leaf \S+ at NAR byte [1-9]/,
    },
    { title: 'never answers', mischief: inEach(() => ({ do: 'never' })), alone: late },
    { title: 'stops in the middle of each block', mischief: inEach(stop), alone: late },
    {
      title: 'stops in the middle of the NAR',
      mischief: inLater(stop),
      alone: /source failed and is out for this NAR/,
    },
  ]
  for (const { title, mischief, alone } of badPeers) {
    await t.test(`a peer that ${title}`, async (t) => {
      await t.test('alone', async (t) => {
        const own = await openStage(t, stage)
        const { url } = await startBadServer(own, new URL(peerUrl), blocksAlone(mischief))
        const settings = { trust, feed: [feed], peers: { urls: [url] } }
        await assertRefused(t, await openConsumer(own, settings, [size]), wanted, alone)
      })
      await t.test('beside an honest one', async (t) => {
        const own = await openStage(t, stage)
        const { url } = await startBadServer(own, new URL(peerUrl), blocksAlone(mischief))
        const good = await startBadServer(own, new URL(peerUrl), blocksAlone(PASS_ALL))
        const settings = { trust, feed: [feed], peers: { urls: [url, good.url] } }
        const told = /source (?:gave wrong bytes and is out|stalled)/
        await assertInstalled(t, await openConsumer(own, settings, [size]), wanted, told)
      })
    })
  }

  const badUpstreams: { title: string; open: (stage: Stage) => Promise<string> }[] = [
    { title: 'whose NAR is cut short', open: async (stage) => truncatedCopy(cache, stage) },
    { title: 'whose compressed NAR is cut short', open: async (stage) => truncatedCopy(compressed, stage) },
    {
      title: 'that cuts the connection',
      async open(stage) {
        const cut: Deed = { do: 'cut', after: 2_500_000 }
        const mischief: Mischief = (path) => (path.startsWith('nar/') ? cut : PASS)
        return (await startBadServer(stage, pathToFileURL(cache), mischief)).url
      },
    },
  ]
  const told = /a source of the NAR failed: .*way=upstream:/
  for (const { title, open } of badUpstreams) {
    await t.test(`an upstream ${title}`, async (t) => {
      await t.test('alone', async (t) => {
        const own = await openStage(t, stage)
        const settings = { trust, upstreams: [await open(own)] }
        await assertRefused(t, await openConsumer(own, settings), wanted, told)
      })
      await t.test('beside a good one', async (t) => {
        const own = await openStage(t, stage)
        const consumers: Consumer[] = []
        // It has the path only once the other one has failed: else it might be the one that is asked for the NAR.
        const good = await startBadServer(own, pathToFileURL(cache), (path) =>
          path.endsWith('.narinfo') && !consumers.some(({ narswarm }) => told.test(narswarm.log().join('\n')))
            ? { do: 'miss' }
            : PASS,
        )
        const settings = { trust, upstreams: [await open(own), good.url] }
        const consumer = await openConsumer(own, settings)
        consumers.push(consumer)
        await assertInstalled(t, consumer, wanted, told)
      })
    })
  }
  await honest.stop()
})

const PASS_ALL: Mischief = () => PASS

/** A gateway and no cache, and known for one: its NARs come leaf by leaf or not at all. */
function blocksAlone(mischief: Mischief): Mischief {
  return (path, body) => {
    if (path.startsWith('ipfs/bafkqaaa')) return PASS
    return path.startsWith('ipfs/') ? mischief(path, body) : { do: 'miss' }
  }
}

/** Each NAR loses its second half. */
async function truncatedCopy(cache: string, stage: Stage): Promise<string> {
  const copy = join(stage.dir, 'truncated')
  await cp(cache, copy, { recursive: true })
  for (const file of await readdir(join(copy, 'nar'))) {
    const path = join(copy, 'nar', file)
    await truncate(path, (await stat(path)).size >> 1)
  }
  return pathToFileURL(copy).href
}
