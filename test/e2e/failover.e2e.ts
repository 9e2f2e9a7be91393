import assert from 'node:assert/strict'
import { copyFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { get } from 'node:http'
import type { IncomingMessage } from 'node:http'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import { formatNarInfo, parseNarInfo } from '../../src/nix/narinfo.ts'
import type { NarInfo } from '../../src/nix/narinfo.ts'
import { hashPartOf, parseStorePath } from '../../src/nix/store-path.ts'
import { skipWithoutNix } from '../kit/nix.ts'
import { storeXz } from '../upstream/store-xz.ts'
import { PASS, startBadServer } from './kit/bad-server.ts'
import type { BadServer } from './kit/bad-server.ts'
import { openBuilder } from './kit/builder.ts'
import { install, openConsumer } from './kit/consumer.ts'
import type { Consumer, Wanted } from './kit/consumer.ts'
import { startCountingProxy } from './kit/counting-proxy.ts'
import { createGate } from './kit/gate.ts'
import { addressesOf, publishFeed, startNarswarm, startPublisher } from './kit/narswarm.ts'
import { openNixMachine } from './kit/nix-machine.ts'
import { openStage } from './kit/stage.ts'
import type { Stage } from './kit/stage.ts'

const STORE_DIR = '/nix/store'
/** Half of some 190. */
const HALF_OF_BLOCKS = 95

/** A cache whose first NAR stops half way. Such are those that this file is about. */
interface HalfServer extends BadServer {
  /** Resolves when half of the NAR is out. */
  readonly half: Promise<void>
}

async function startHalfServer(stage: Stage, cache: string): Promise<HalfServer> {
  const { promise: half, resolve: onSilence } = Promise.withResolvers<void>()
  const server = await startBadServer(stage, pathToFileURL(cache), (path, body) =>
    path.startsWith('nar/') ? { do: 'silence', after: body.length >> 1, onSilence } : PASS,
  )
  return { ...server, half }
}

/** Has no narinfo before it is told to: so that it is not the one that is asked first. */
async function startLateServer(stage: Stage, cache: string): Promise<BadServer & { begin(): void }> {
  let begun = false
  const server = await startBadServer(stage, pathToFileURL(cache), (path) =>
    path.endsWith('.narinfo') && !begun ? { do: 'miss' } : PASS,
  )
  return { ...server, begin: () => (begun = true) }
}

/** Whatever is done to its sources in the middle, Nix has the whole in one answer to one request. */
async function assertUnnoticed(
  stage: Stage,
  consumer: Consumer,
  wanted: Wanted,
  inTheMiddle: () => Promise<void>,
): Promise<void> {
  const proxy = await startCountingProxy(stage, consumer.url)
  const installing = install({ ...consumer, url: proxy.url }, wanted)
  const done = async (): Promise<void> => {
    // Nix has a part of it that it will not ask for again.
    await proxy.until(wanted.path.narSize >> 3)
    await inTheMiddle()
  }
  await Promise.race([done(), installing.then((told) => assert.equal(told, undefined))])
  assert.equal(await installing, undefined)
  assert.deepEqual(
    proxy.requests.filter(({ path }) => path.startsWith('/nar/')).map(({ range, status }) => [range, status]),
    [[undefined, 200]],
  )
}

/** @param goesOn who gave the rest, and no more than that: how the first half was shared is its own affair */
async function assertSources(
  { narswarm }: Consumer,
  { path: { narSize } }: Wanted,
  goesOn: RegExp,
  others: readonly RegExp[] = [],
): Promise<void> {
  const sources = (await narswarm.status()).sources.filter(({ bytes }) => bytes > 0)
  const all = JSON.stringify(sources)
  const gaveBytes = (source: RegExp): number => sources.find(({ id }) => source.test(id))?.bytes ?? 0
  for (const source of [goesOn, ...others]) {
    assert.ok(gaveBytes(source) > 0, `nothing came from ${String(source)}: ${all}`)
  }
  assert.ok(gaveBytes(goesOn) < narSize * 0.95, `nearly all came from ${String(goesOn)}: ${all}`)
  const bytes = sources.reduce((sum, source) => sum + source.bytes, 0)
  assert.ok(bytes < narSize * 1.1, `more than the NAR came, some of it twice: ${all}`)
}

/** The same cache once more: each NAR in an .xz file. */
async function packXz(cache: string, target: string): Promise<void> {
  await mkdir(join(target, 'nar'), { recursive: true })
  await copyFile(join(cache, 'nix-cache-info'), join(target, 'nix-cache-info'))
  for (const file of (await readdir(cache)).filter((name) => name.endsWith('.narinfo'))) {
    const text = await readFile(join(cache, file), 'utf8')
    const info = parseNarInfo(text, STORE_DIR)
    const packed: NarInfo = { ...info, url: `${info.url}.xz`, compression: 'xz' }
    delete packed.fileHash
    delete packed.fileSize
    await writeFile(join(target, file), formatNarInfo(packed, STORE_DIR))
    await writeFile(join(target, packed.url), storeXz(await readFile(join(cache, info.url))))
  }
}

test('a source dies at half of a large NAR, and Nix sees nothing', { skip: skipWithoutNix() }, async (t) => {
  const stage = await openStage(t)
  const builder = await openBuilder(stage, 'large')
  const { top, closure, publicKey } = builder
  const [path] = closure
  assert.ok(path !== undefined)
  const wanted = { path, publicKey }
  const trust = { keys: [publicKey] }
  const caches = { none: join(stage.dir, 'none'), xz: join(stage.dir, 'xz') }
  await builder.copyTo(`file://${caches.none}?compression=none`, [top])
  await packXz(caches.none, caches.xz)
  const publisher = await startPublisher(stage, 'peer', { store_root: builder.root }, [publicKey])
  const { feed, size } = await publishFeed(publisher, 'e2e.narswarm.invalid/main', top)
  const { peerUrl } = await addressesOf(publisher)

  await t.test('a peer is killed, another one goes on', async (t) => {
    const own = await openStage(t, stage)
    const other = await startPublisher(own, 'other', { store_root: builder.root }, [publicKey])
    await publishFeed(other, 'other.narswarm.invalid/main', top)
    const gate = createGate(HALF_OF_BLOCKS)
    let killed = false
    const behindGate = async (url: string, mortal: boolean): Promise<string> => {
      const server = await startBadServer(own, new URL(url), async () => {
        await gate.pass()
        return mortal && killed ? { do: 'cut', after: 0 } : PASS
      })
      return server.url
    }
    const urls = [
      await behindGate((await addressesOf(other)).peerUrl, true),
      await behindGate(peerUrl, false),
    ]
    const consumer = await openConsumer(own, { trust, feed: [feed], peers: { urls } }, [size])
    await assertUnnoticed(own, consumer, wanted, async () => {
      await gate.full
      killed = true
      await other.kill()
      gate.open()
    })
    const [dead, alive] = urls.map((url) => new RegExp(`^neighbour:${url}`)) as [RegExp, RegExp]
    await assertSources(consumer, wanted, alive, [dead])
    await consumer.narswarm.stop()
  })

  await t.test('a peer dies, an upstream of xz goes on', async (t) => {
    const own = await openStage(t, stage)
    const gate = createGate(HALF_OF_BLOCKS)
    const peer = await startBadServer(own, new URL(peerUrl), async () => {
      await gate.pass()
      return PASS
    })
    const upstream = await startBadServer(own, pathToFileURL(caches.xz), () => PASS)
    const settings = { trust, feed: [feed], peers: { urls: [peer.url] }, upstreams: [upstream.url] }
    const consumer = await openConsumer(own, settings, [size])
    await assertUnnoticed(own, consumer, wanted, async () => {
      await gate.full
      peer.die()
    })
    await assertSources(consumer, wanted, /^upstream:/, [/^neighbour:/])
    await consumer.narswarm.stop()
  })

  for (const compression of ['xz', 'none'] as const) {
    await t.test(`an upstream of compression ${compression} dies, a peer goes on`, async (t) => {
      const own = await openStage(t, stage)
      const upstream = await startHalfServer(own, caches[compression])
      let back = false
      const peer = await startBadServer(own, new URL(peerUrl), (path) =>
        back || path.startsWith('ipfs/bafkqaaa') || path.startsWith('feed/') ? PASS : { do: 'miss' },
      )
      const settings = { trust, feed: [feed], peers: { urls: [peer.url] }, upstreams: [upstream.url] }
      const consumer = await openConsumer(own, settings, [size])
      await assertUnnoticed(own, consumer, wanted, async () => {
        await upstream.half
        back = true
        upstream.die()
      })
      await assertSources(consumer, wanted, /^neighbour:/)
      await consumer.narswarm.stop()
    })
  }

  for (const [first, second] of [
    ['xz', 'none'],
    ['none', 'xz'],
  ] as const) {
    await t.test(`an upstream of compression ${first} dies, one of ${second} goes on`, async (t) => {
      const own = await openStage(t, stage)
      const dying = await startHalfServer(own, caches[first])
      const healthy = await startLateServer(own, caches[second])
      const consumer = await openConsumer(own, { trust, upstreams: [dying.url, healthy.url] })
      await assertUnnoticed(own, consumer, wanted, async () => {
        await dying.half
        healthy.begin()
        dying.die()
      })
      await assertSources(consumer, wanted, new RegExp(`^upstream:${healthy.url}`))
      await consumer.narswarm.stop()
    })
  }
  await publisher.stop()
})

test('narswarm itself fails, and Nix gets on', { skip: skipWithoutNix() }, async (t) => {
  const stage = await openStage(t)
  const builder = await openBuilder(stage, 'mediums')
  const { top, closure, publicKey } = builder
  const trust = { keys: [publicKey] }
  const cache = join(stage.dir, 'cache')
  await builder.copyTo(`file://${cache}?compression=none`, [top])
  const named = (name: string): (typeof closure)[number] => {
    const found = closure.find(({ path }) => path.endsWith(name))
    if (found === undefined) throw new Error(`no ${name} was built`)
    return found
  }
  const wanted = { path: named('-medium-1.0'), publicKey }
  const plain = await startBadServer(stage, pathToFileURL(cache), () => PASS)

  await t.test('killed at half for good: the next substituter has it', async (t) => {
    const own = await openStage(t, stage)
    const upstream = await startHalfServer(own, cache)
    const consumer = await openConsumer(own, { trust, upstreams: [upstream.url] })
    const proxy = await startCountingProxy(own, consumer.url)
    const installing = consumer.realise([wanted.path.path], {
      url: `${proxy.url}?priority=1 ${plain.url}?priority=2`,
      publicKey,
      attempts: 3,
    })
    await Promise.race([Promise.all([upstream.half, proxy.until(wanted.path.narSize >> 3)]), installing])
    await consumer.narswarm.kill()
    const { ok, stderr } = await installing
    assert.ok(ok, stderr)
    await consumer.verify()
    assert.deepEqual(consumer.validPaths(), [wanted.path])
    assert.ok(proxy.requests.some(({ path, status }) => path.startsWith('/nar/') && status === 200))
  })

  await t.test('killed at half and started again: Nix resumes by Range', async (t) => {
    const own = await openStage(t, stage)
    const upstream = await startHalfServer(own, cache)
    const settings = { trust, upstreams: [upstream.url] }
    const consumer = await openConsumer(own, settings)
    const proxy = await startCountingProxy(own, consumer.url)
    const installing = install({ ...consumer, url: proxy.url }, wanted)
    await Promise.race([Promise.all([upstream.half, proxy.until(wanted.path.narSize >> 3)]), installing])
    await consumer.narswarm.kill()
    await consumer.narswarm.start({
      cache: { listen: new URL(consumer.url).host },
      upstreams: [plain.url],
    })
    assert.equal(await installing, undefined)
    const [first, ...others] = proxy.requests.filter(({ path }) => path.startsWith('/nar/'))
    assert.deepEqual([first?.range, first?.status], [undefined, 200])
    const resumed = others.filter(({ status }) => status !== 0)
    assert.deepEqual(
      resumed.map(({ status }) => status),
      [206],
    )
    assert.match(resumed[0]?.range ?? 'none', /^bytes=[1-9][0-9]*-$/)
    await consumer.narswarm.stop()
  })

  await t.test('its network is unplugged', async (t) => {
    const own = await openStage(t, stage)
    // Answers nobody, as a host behind a cable that was pulled; then it is asked for nothing.
    let plugged = true
    const upstream = await startBadServer(own, pathToFileURL(cache), () => (plugged ? PASS : { do: 'never' }))
    // Without a store of its own: all that it has is in its spool.
    const narswarm = await startNarswarm(own, 'unplugged', {
      trust,
      upstreams: [upstream.url],
      store_root: join(own.dir, 'no-store'),
    })
    const { url } = (await narswarm.status()).cache
    const before = { ...(await openNixMachine(own, 'before')), narswarm, url }
    assert.equal(await install(before, wanted), undefined)
    plugged = false

    await t.test('what it has still installs', async () => {
      const after = { ...(await openNixMachine(own, 'after')), narswarm, url }
      const asked = upstream.asked.length
      assert.equal(await install(after, wanted), undefined)
      assert.equal(upstream.asked.length, asked)
    })

    await t.test('misses are fast, and the next substituter has the rest', async () => {
      // Each of them costs a deadline.
      for (const hashPart of ['0', '1', '2'].map((digit) => digit.repeat(32))) {
        assert.equal((await head(`${url}/${hashPart}.narinfo`)).statusCode, 404)
      }
      const asked = upstream.asked.length
      const machine = await openNixMachine(own, 'building')
      const substituters = `${url}?priority=1 ${plain.url}?priority=2`
      const { ok, stderr } = await machine.realise([top], { url: substituters, publicKey })
      assert.ok(ok, stderr)
      await machine.verify()
      assert.deepEqual(machine.validPaths(), closure)
      const probes = upstream.asked.length - asked
      assert.ok(probes <= 1, `a host that is known to be silent was asked ${probes} times`)
    })
    await narswarm.stop()
  })

  await t.test('256 clients ask for one NAR: its upstream is asked once', async (t) => {
    const own = await openStage(t, stage)
    const gate = createGate(0)
    const { path, narSize } = named('-other-size')
    const upstream = await startBadServer(own, pathToFileURL(cache), async (file) => {
      if (file.startsWith('nar/')) await gate.pass()
      return PASS
    })
    const consumer = await openConsumer(own, { trust, upstreams: [upstream.url] })
    const hashPart = hashPartOf(parseStorePath(path, STORE_DIR))
    const narInfo = await body(await head(`${consumer.url}/${hashPart}.narinfo`))
    const [, narUrl] = /^URL: (.*)$/m.exec(narInfo.toString()) ?? []
    const proxy = await startCountingProxy(own, consumer.url)
    const clients = Array.from({ length: 256 }, () => head(`${proxy.url}/${narUrl}`).then(body))
    await gate.full
    while (proxy.requests.length < clients.length) await sleep(20, undefined, { signal: own.signal })
    gate.open()
    const [first, ...others] = await Promise.all(clients)
    assert.equal(first?.length, narSize)
    for (const other of others) assert.ok(other.equals(first ?? Buffer.alloc(0)))
    assert.equal(upstream.asked.filter((file) => file.startsWith('nar/')).length, 1)
    await consumer.narswarm.stop()
  })
})

function head(url: string): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    get(url, { agent: false }, resolve).on('error', reject)
  })
}

async function body(answer: IncomingMessage): Promise<Buffer> {
  const parts = await Array.fromAsync(answer as AsyncIterable<Buffer>)
  assert.equal(answer.statusCode, 200)
  return Buffer.concat(parts)
}
