import assert from 'node:assert/strict'
import { createReadStream } from 'node:fs'
import { describe, test } from 'node:test'
import type { TestContext } from 'node:test'
import type { CID } from 'multiformats/cid'
import { request } from 'undici'
import { writeCar } from '../../src/dag/car.ts'
import { rawCid, sha256 } from '../../src/dag/cid.ts'
import { leafCount, leafSize } from '../../src/dag/profile.ts'
import { rootLink } from '../../src/dag/reader.ts'
import { createTreeBuilder } from '../../src/dag/tree.ts'
import { carBlocks } from '../../src/http/car-body.ts'
import { formatNarHash, narHashDigest } from '../../src/nix/hash.ts'
import type { CallOptions } from '../../src/source.ts'
import { createContents } from '../dag/golden.ts'
import type { Content } from '../dag/golden.ts'
import { skipWithoutNix } from '../kit/nix.ts'
import { cleanupAfter, workDir } from './kit/cleanup.ts'
import { kuboCidOf, skipWithoutKubo, startKubo } from './kit/kubo.ts'
import type { Kubo } from './kit/kubo.ts'
import { follow, installWithNix, publishOne } from './kit/narswarm.ts'
import type { Published } from './kit/narswarm.ts'

interface Scene {
  readonly dir: string
  readonly cleanup: AsyncDisposableStack
  readonly published: Published
  readonly kubo: Kubo
}

async function scene(t: TestContext): Promise<Scene> {
  const cleanup = cleanupAfter(t)
  const dir = await workDir(cleanup)
  const published = await publishOne(dir, cleanup, t)
  const kubo = await startKubo(cleanup)
  return { dir, cleanup, published, kubo }
}

/** Told, not asserted: machines differ. */
function tellRate(t: TestContext, what: string, bytes: number, tookMs: number): void {
  t.diagnostic(
    `${what}: ${bytes} bytes in ${tookMs.toFixed(0)} ms, ${(bytes / tookMs / 1000).toFixed(0)} MB/s`,
  )
}

function narHashHex({ info }: Published): string {
  return Buffer.from(narHashDigest(info.narHash)).toString('hex')
}

async function catIsTheNar(t: TestContext, kubo: Kubo, published: Published, what: string): Promise<void> {
  const begun = performance.now()
  assert.equal(await kubo.sha256(['cat', `/ipfs/${published.cid}`]), narHashHex(published))
  tellRate(t, what, published.info.narSize, performance.now() - begun)
}

describe('with a real Kubo', { skip: skipWithoutKubo(), timeout: 240_000 }, () => {
  test('the root CID of a published NAR is the one that Kubo computes', async (t) => {
    const cleanup = cleanupAfter(t)
    const published = await publishOne(await workDir(cleanup), cleanup, t)
    assert.equal(published.cid, await kuboCidOf(published.narFile, cleanup))
  })

  test('Kubo cats a published NAR from narswarm over bitswap', async (t) => {
    const { published, kubo } = await scene(t)
    await kubo.ipfs(['swarm', 'connect', published.addr])
    await catIsTheNar(t, kubo, published, 'narswarm to Kubo, bitswap, ipfs cat')
    assert.equal(await kubo.ipfs(['swarm', 'peers']), published.addr)
  })

  test('Kubo imports the CAR of a published NAR from our gateway', async (t) => {
    const { published, kubo } = await scene(t)
    const begun = performance.now()
    const { statusCode, body } = await request(`${published.peerUrl}/ipfs/${published.cid}?format=car`, t)
    assert.equal(statusCode, 200)
    const imported = await kubo.ipfs(['dag', 'import', '--stats', '--enc=json'], body)
    tellRate(t, 'narswarm to Kubo, CAR, ipfs dag import', published.info.narSize, performance.now() - begun)
    const roots = imported
      .split('\n')
      .map((line) => (JSON.parse(line) as { Root?: { Cid: { '/': string } } }).Root?.Cid['/'])
    assert.deepEqual(
      roots.filter((root) => root !== undefined),
      [published.cid],
    )
    assert.equal(await kubo.ipfs(['swarm', 'peers']), '')
    await catIsTheNar(t, kubo, published, 'Kubo by itself, ipfs cat')
  })

  const ways = [
    {
      title: 'over bitswap',
      peers: (kubos: readonly Kubo[]) => ({ addrs: kubos.map(({ addr }) => addr) }),
      source: ({ addr }: Kubo) => `bitswap:${addr.split('/p2p/')[1]}`,
    },
    {
      title: "from Kubo's gateway",
      peers: (kubos: readonly Kubo[]) => ({ urls: kubos.map(({ gatewayUrl }) => gatewayUrl) }),
      source: ({ gatewayUrl }: Kubo) => `neighbour:${gatewayUrl}`,
    },
  ]
  for (const { title, peers, source } of ways) {
    const what = `Nix installs through narswarm a path whose NAR only Kubo holds, ${title}`
    test(what, { skip: skipWithoutNix() }, async (t) => {
      const { dir, cleanup, published, kubo } = await scene(t)
      const { info, cid, publicKey } = published
      const added = await kubo.ipfs(['add', '--quieter'], createReadStream(published.narFile))
      assert.equal(added, cid)
      const feed = await published.vanish()
      // Its "don't have" and its 404 are no faults.
      const without = await startKubo(cleanup)

      const node = await follow(dir, { feed, publicKey, peers: peers([without, kubo]) }, cleanup, t)
      const substituter = (await node.status()).cache.url
      const { narHash, tookMs } = await installWithNix(dir, info.storePath, { substituter, publicKey })
      assert.equal(narHash, formatNarHash(info.narHash))
      tellRate(t, `Kubo to Nix through narswarm, ${title}`, info.narSize, tookMs)

      const { sources } = await node.status()
      const gave = sources.filter(({ bytes }) => bytes > 0)
      assert.deepEqual(
        gave.map(({ id }) => id),
        [source(kubo)],
      )
      assert.ok((gave[0]?.bytes ?? 0) >= info.narSize)
      const blamed = sources.filter(({ faults, lies }) => faults + lies > 0)
      assert.deepEqual(blamed, [])
    })
  }

  test('Kubo imports our CARs of one and of two levels of nodes, and exports the same bytes', async (t) => {
    const kubo = await startKubo(cleanupAfter(t))
    const files: [content: Content, size: number][] = [
      ['mod251', 3_145_735],
      ['zero', 2 ** 31],
      ['zero', 2 ** 32 - 1],
      ['zero', 5 * 2 ** 30 + 1],
    ]
    for (const [content, size] of files) {
      const { root, car } = await carOf(content, size, t)
      await kubo.ipfs(['dag', 'import'], [car])
      const exported = await kubo.sha256(['dag', 'export', '--progress=false', root.toString()])
      assert.equal(exported, Buffer.from(sha256(car)).toString('hex'), `${content}-${size}`)
      const told = await kubo.ipfs(['files', 'stat', '--format=<size>', `/ipfs/${root.toString()}`])
      assert.equal(told, String(size))
    }
  })
})

/** As our gateway sends it. */
async function carOf(
  content: Content,
  size: number,
  options: CallOptions,
): Promise<{ root: CID; car: Buffer }> {
  const contentAt = createContents()
  const tree = createTreeBuilder()
  const digests = new Map<string, Uint8Array>()
  const blocks = new Map<string, Uint8Array>()
  for (let at = 0, leaf = 0; leaf < leafCount(size); leaf++) {
    const bytes = contentAt(content, at, leafSize(size, leaf))
    // Leaves are views of one pattern: the same place, the same bytes.
    const view = `${bytes.byteOffset} ${bytes.length}`
    const digest = digests.get(view) ?? sha256(bytes)
    digests.set(view, digest)
    tree.addLeaf(digest, bytes.length)
    blocks.set(rawCid(digest).toString(), bytes)
    at += bytes.length
  }
  const { root, nodes } = tree.finish()
  for (const { cid, bytes } of nodes) blocks.set(cid.toString(), bytes)
  const get = (cid: CID) => Promise.resolve(blocks.get(cid.toString()))
  const whole = { scope: 'all', dups: false, entityBytes: undefined } as const
  const parts = writeCar(root, carBlocks(rootLink(root, size), whole, get, options))
  return { root, car: Buffer.concat(await Array.fromAsync(parts)) }
}
