import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { copyFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { NIXOS_KEY } from '../../src/config/schema.ts'
import { formatStorePath } from '../../src/nix/store-path.ts'
import { parseNarInfo } from '../../src/nix/narinfo.ts'
import type { NarInfo } from '../../src/nix/narinfo.ts'
import { skipWithoutNix } from '../kit/nix.ts'
import { skipWithoutVectors, vectorsDir } from '../kit/vectors.ts'
import { addressesOf, hasFeeds, publishFeed, startNarswarm, startPublisher } from './kit/narswarm.ts'
import { openNixMachine } from './kit/nix-machine.ts'
import { openStage } from './kit/stage.ts'

const STORE_DIR = '/nix/store'

test(
  'genuine paths of cache.nixos.org install offline from a peer, under its own key',
  { skip: skipWithoutNix() || skipWithoutVectors() },
  async (t) => {
    const stage = await openStage(t)
    const cache = join(stage.dir, 'cache')
    const infos = await copySelfContained(vectorsDir() ?? '', cache)
    assert.equal(infos.length, 16)
    const bytes = [...new Map(infos.map(({ narHash, narSize }) => [narHash, narSize])).values()].reduce(
      (a, b) => a + b,
    )

    // No key is named: what a fresh install trusts and shares is what cache.nixos.org signed.
    const publisher = await startPublisher(stage, 'A', { store_root: join(stage.dir, 'no-store') })
    const { feed, size } = await publishFeed(publisher, 'e2e.narswarm.invalid/genuine', '--from', cache)
    assert.equal(size, infos.length)
    const { peerUrl, addrs } = await addressesOf(publisher)

    const ways = [
      { title: 'over bitswap', source: /^bitswap:/, peers: { addrs } },
      { title: 'over the HTTP gateway', source: /^neighbour:/, peers: { urls: [peerUrl] } },
    ]
    for (const { title, source, peers } of ways) {
      await t.test(title, async (t) => {
        const own = await openStage(t, stage)
        const machine = await openNixMachine(own, 'machine')
        const consumer = await startNarswarm(own, 'B', { store_root: machine.root, peers, feed: [feed] })
        const { cache, trusted_keys } = await consumer.until(hasFeeds(size))
        assert.deepEqual(trusted_keys, [NIXOS_KEY])

        const paths = infos.map(({ storePath }) => formatStorePath(storePath, STORE_DIR))
        const { ok, stderr } = await machine.realise(paths, { url: cache.url, publicKey: NIXOS_KEY })
        assert.ok(ok, stderr)
        await machine.verify()
        assert.deepEqual(
          machine.validPaths().map(({ path }) => path),
          paths.sort(),
        )
        const { sources } = await consumer.status()
        for (const { id } of sources) assert.match(id, source)
        const came = sources.reduce((sum, one) => sum + one.bytes, 0)
        assert.ok(came >= bytes, `expected ${bytes} bytes, got ${JSON.stringify(sources)}`)
        await consumer.stop()
      })
    }
    await publisher.stop()
  },
)

/** Those narinfos that refer to nothing else, and of which we have the very file that they name. */
async function copySelfContained(vectors: string, cache: string): Promise<NarInfo[]> {
  await mkdir(join(cache, 'nar'), { recursive: true })
  await writeFile(join(cache, 'nix-cache-info'), `StoreDir: ${STORE_DIR}\n`)
  const copied: NarInfo[] = []
  for (const file of await readdir(join(vectors, 'narinfo'))) {
    const info = parseNarInfo(await readFile(join(vectors, 'narinfo', file), 'utf8'), STORE_DIR)
    if (info.references.some((one) => one !== info.storePath) || !existsSync(join(vectors, info.url)))
      continue
    await copyFile(join(vectors, 'narinfo', file), join(cache, file))
    await copyFile(join(vectors, info.url), join(cache, info.url))
    copied.push(info)
  }
  return copied
}
