import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { cp, mkdir, readdir, readFile, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { parseCid } from '../../src/dag/cid.ts'
import { parseFeedName } from '../../src/feed/feed-name.ts'
import { createFeed, openPublisher } from '../../src/feed/publisher.ts'
import { formatPublicKey, formatSecretKey, generateSecretKey } from '../../src/nix/key.ts'
import { parseNarInfo } from '../../src/nix/narinfo.ts'
import { hashPartOf, parseStorePath } from '../../src/nix/store-path.ts'
import { recordingLog } from '../kit/log.ts'
import { skipWithoutNix } from '../kit/nix.ts'
import { flipBit, PASS, startBadServer } from './kit/bad-server.ts'
import type { Deed, Mischief } from './kit/bad-server.ts'
import { hasFeeds, publishFeed, startNarswarm } from './kit/narswarm.ts'
import type { FollowedFeed, Narswarm } from './kit/narswarm.ts'
import { closureOf, openNixMachine } from './kit/nix-machine.ts'
import type { NixMachine } from './kit/nix-machine.ts'
import { openStage } from './kit/stage.ts'
import type { Stage } from './kit/stage.ts'

const PACKAGES = fileURLToPath(new URL('./kit/packages.nix', import.meta.url))
const STORE_DIR = '/nix/store'
/** A bound, not a measurement: after it Nix would have had to wait for nothing for too long. */
const ANSWER_DEADLINE_MS = 60_000

test('nothing wrong gets into the store', { skip: skipWithoutNix() }, async (t) => {
  const stage = await openStage(t)
  const key = generateSecretKey('e2e-1', randomBytes)
  const publicKey = formatPublicKey(key.publicKey)
  const keyFile = join(stage.dir, 'secret-key')
  await writeFile(keyFile, `${formatSecretKey(key)}\n`, { mode: 0o600 })

  const builder = await openNixMachine(stage, 'builder')
  const top = await builder.build(PACKAGES, 'mediums', ['--option', 'secret-key-files', keyFile])
  const closure = closureOf(builder.validPaths(), top)
  const named = (name: string): (typeof closure)[number] => {
    const found = closure.find(({ path }) => path.endsWith(name))
    assert.ok(found !== undefined)
    return found
  }
  const medium = named('-medium-1.0')
  assert.equal(named('-same-size').narSize, medium.narSize)
  assert.notEqual(named('-other-size').narSize, medium.narSize)

  const honest = await startNarswarm(stage, 'honest', {
    profile: 'pool',
    store_root: builder.root,
    peer: { listen: '127.0.0.1:0' },
    swarm: { listen: ['/ip4/127.0.0.1/tcp/0'] },
    trust: { keys: [publicKey] },
    share: { keys: [publicKey] },
  })
  const { feed, size, cids } = await publishFeed(honest, 'honest.narswarm.invalid/main', top)
  const { peer, swarm } = await honest.status()
  assert.ok(peer !== undefined && swarm !== undefined)
  const peerUrl = peer.url

  const cache = join(stage.dir, 'cache')
  await builder.copyTo(`file://${cache}?compression=none`, [top])
  const goodCache = pathToFileURL(cache).href

  /** A machine with a narswarm that gets `medium` as `settings` say. */
  async function openConsumer(stage: Stage, settings: Record<string, unknown>, feedSizes: number[]): Promise<Consumer> {
    const machine = await openNixMachine(stage, 'machine')
    const narswarm = await startNarswarm(stage, 'consumer', {
      profile: 'private',
      store_root: machine.root,
      trust: { keys: [publicKey] },
      ...settings,
    })
    const { cache } = await narswarm.until(hasFeeds(...feedSizes))
    return { machine, narswarm, url: cache.url }
  }

  async function install({ machine, url }: Consumer): Promise<{ ok: boolean; stderr: string }> {
    const outcome = await machine.realise([medium.path], { url, publicKey })
    await machine.verify()
    assert.deepEqual(machine.validPaths(), outcome.ok ? [medium] : [])
    return outcome
  }

  async function refuses(t: TestContext, consumer: Consumer, told: RegExp): Promise<void> {
    const { ok } = await install(consumer)
    assert.equal(ok, false)
    assertTold(t, consumer.narswarm, told)
    await consumer.narswarm.stop()
  }

  async function installs(t: TestContext, consumer: Consumer, told: RegExp): Promise<void> {
    const { ok, stderr } = await install(consumer)
    assert.ok(ok, stderr)
    assertTold(t, consumer.narswarm, told)
    await consumer.narswarm.stop()
  }

  await t.test('a narinfo signed by a key that is not trusted', async (t) => {
    const stage = await openStage(t)
    const other = formatPublicKey(generateSecretKey('other-1', randomBytes).publicKey)
    const settings = { feed: [feed], peers: { urls: [peerUrl] }, trust: { keys: [other] } }
    const consumer = await openConsumer(stage, settings, [size])
    await refuses(t, consumer, /refused: expected 1 good signature by other-1, got 0; its signatures are by e2e-1/)
  })

  await t.test('a narinfo signed by another key of the trusted name', async (t) => {
    const stage = await openStage(t)
    const impostor = formatPublicKey(generateSecretKey('e2e-1', randomBytes).publicKey)
    const settings = { upstreams: [goodCache], trust: { keys: [impostor] } }
    const consumer = await openConsumer(stage, settings, [])
    await refuses(t, consumer, /refused: expected 1 good signature by e2e-1, got 0/)
  })

  /** A feed that tells the CID of another valid NAR for `medium`, with the right narinfo. */
  async function lyingFeed(stage: Stage, about: string): Promise<FollowedFeed> {
    const name = parseFeedName('lies.narswarm.invalid/main')
    const dir = join(stage.dir, 'lies')
    await mkdir(dir)
    const place = { name, dir, keysDir: join(stage.dir, 'lies-keys'), storeDir: STORE_DIR }
    const deps = { clock: Date.now, log: recordingLog(), randomBytes }
    const { rootKey } = await createFeed(place, deps)
    const publisher = await openPublisher(place, deps)
    const hashPart = hashPartOf(parseStorePath(medium.path, STORE_DIR))
    const info = parseNarInfo(await readFile(join(cache, `${hashPart}.narinfo`), 'utf8'), STORE_DIR)
    const { storePath, narHash, narSize, references, signatures } = info
    const cid = parseCid(cids.get(about.slice(STORE_DIR.length + 1)) ?? cids.get(about) ?? '')
    const entry = { kind: 'mapping', storePath, narHash, narSize, references, signatures, cid } as const
    await publisher.append([entry], { signal: stage.signal })
    return { name, root_key: rootKey, sources: [pathToFileURL(dir).href] }
  }

  const wrongCids = [
    { title: 'of another size', about: named('-other-size').path, told: /way=blocks:.*|size/ },
    { title: 'of the same size', about: named('-same-size').path, told: /NAR thrown away: bytes from blocks:\S+ hash to \S+, signed is/ },
  ]
  for (const { title, about, told } of wrongCids) {
    await t.test(`a feed entry with the CID of another valid NAR, ${title}`, async (t) => {
      await t.test('alone', async (t) => {
        const stage = await openStage(t)
        const feeds = [await lyingFeed(stage, about)]
        await refuses(t, await openConsumer(stage, { feed: feeds, peers: { urls: [peerUrl] } }, [1]), told)
      })
      await t.test('beside an honest feed', async (t) => {
        const stage = await openStage(t)
        const feeds = [await lyingFeed(stage, about), feed]
        const consumer = await openConsumer(stage, { feed: feeds, peers: { urls: [peerUrl] } }, [1, size])
        await installs(t, consumer, told)
      })
    })
  }

  /** Does it to raw leaves from the second on, and to each kind of block when it is `at` 0. */
  const blocks = (deed: (body: Uint8Array) => Deed, at = 0): Mischief => {
    let seen = 0
    return (path, body) => (path.startsWith('ipfs/') && seen++ >= at ? deed(body) : PASS)
  }
  const badPeers: { title: string; mischief: () => Mischief; told: RegExp }[] = [
    {
      title: 'flips a bit of the first block',
      mischief: () => blocks((body) => ({ do: 'replace', body: flipBit(body) })),
      told: /source gave wrong bytes and is out/,
    },
    {
      title: 'flips a bit of a later block',
      mischief: () => blocks((body) => ({ do: 'replace', body: flipBit(body) }), 4),
      told: /source gave wrong bytes and is out/,
    },
    {
      title: 'never answers',
      mischief: () => blocks(() => ({ do: 'never' })),
      told: /no verified byte within|a source of the NAR failed/,
    },
    {
      title: 'stops in the middle of each block',
      mischief: () => blocks(({ length }) => ({ do: 'silence', after: length >> 1 })),
      told: /no verified byte within|a source of the NAR failed/,
    },
    {
      title: 'stops in the middle of the NAR',
      mischief: () => blocks(({ length }) => ({ do: 'silence', after: length >> 1 }), 4),
      told: /a source of the NAR failed|source failed and is out/,
    },
  ]
  for (const { title, mischief, told } of badPeers) {
    await t.test(`a peer that ${title}`, async (t) => {
      await t.test('alone', async (t) => {
        const stage = await openStage(t)
        const { url } = await startBadServer(stage, new URL(peerUrl), mischief())
        const consumer = await openConsumer(stage, { feed: [feed], peers: { urls: [url] } }, [size])
        await refuses(t, consumer, told)
      })
      await t.test('beside an honest one', async (t) => {
        const stage = await openStage(t)
        const { url } = await startBadServer(stage, new URL(peerUrl), mischief())
        const settings = { feed: [feed], peers: { urls: [url, peerUrl] } }
        const consumer = await openConsumer(stage, settings, [size])
        const { ok, stderr } = await install(consumer)
        assert.ok(ok, stderr)
        t.diagnostic(JSON.stringify((await consumer.narswarm.status()).sources))
        t.diagnostic(consumer.narswarm.log().filter(l => /^(warn|error)/.test(l)).join('\n'))
        await consumer.narswarm.stop()
      })
    })
  }

  await t.test('a peer that never answers is a 404 in bounded time', async (t) => {
    const stage = await openStage(t)
    const { url } = await startBadServer(stage, new URL(peerUrl), blocks(() => ({ do: 'never' })))
    const consumer = await openConsumer(stage, { feed: [feed], peers: { urls: [url] } }, [size])
    const signal = AbortSignal.timeout(ANSWER_DEADLINE_MS)
    const hashPart = hashPartOf(parseStorePath(medium.path, STORE_DIR))
    const narinfo = await fetch(`${consumer.url}/${hashPart}.narinfo`, { signal })
    const info = parseNarInfo(await narinfo.text(), STORE_DIR)
    const nar = await fetch(`${consumer.url}/${info.url}`, { signal })
    await nar.body?.cancel()
    assert.equal(nar.status, 404)
    await consumer.narswarm.stop()
  })

  const truncated = join(stage.dir, 'truncated')
  await cp(cache, truncated, { recursive: true })
  for (const file of await readdir(join(truncated, 'nar'))) await truncate(join(truncated, 'nar', file), 2_500_000)
  const badUpstreams: { title: string; open: (stage: Stage) => Promise<string>; told: RegExp }[] = [
    {
      title: 'whose NAR is cut short',
      open: async () => pathToFileURL(truncated).href,
      told: /a source of the NAR failed, the next takes over: .*(?:ended|short|expected)/,
    },
    {
      title: 'that cuts the connection',
      open: async (stage) => {
        const mischief: Mischief = (path) => (path.startsWith('nar/') ? { do: 'cut', after: 2_500_000 } : PASS)
        return (await startBadServer(stage, pathToFileURL(cache), mischief)).url
      },
      told: /a source of the NAR failed, the next takes over/,
    },
  ]
  for (const { title, open, told } of badUpstreams) {
    await t.test(`an upstream ${title}`, async (t) => {
      await t.test('alone', async (t) => {
        const stage = await openStage(t)
        await refuses(t, await openConsumer(stage, { upstreams: [await open(stage)] }, []), told)
      })
      await t.test('beside a good one', async (t) => {
        const stage = await openStage(t)
        const settings = { upstreams: [await open(stage), goodCache] }
        const consumer = await openConsumer(stage, settings, [])
        const { ok, stderr } = await install(consumer)
        assert.ok(ok, stderr)
        t.diagnostic(JSON.stringify((await consumer.narswarm.status()).sources))
        t.diagnostic(consumer.narswarm.log().filter(l => /^(warn|error)/.test(l)).join('\n'))
        await consumer.narswarm.stop()
      })
    })
  }
})

interface Consumer {
  readonly machine: NixMachine
  readonly narswarm: Narswarm
  /** Of its cache. */
  readonly url: string
}

/** One line that says all of it, at a level that is seen. */
function assertTold(t: TestContext, narswarm: Narswarm, told: RegExp): void {
  const lines = narswarm.log().filter((line) => /^(?:warn|error) /.test(line))
  t.diagnostic(lines.join('\n'))
  assert.ok(
    lines.some((line) => told.test(line)),
    `expected a line like ${String(told)}, got:\n${lines.join('\n')}`,
  )
}
