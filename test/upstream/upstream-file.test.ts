import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { copyFile, mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { pathToFileURL } from 'node:url'
import { narHashFromDigest } from '../../src/nix/hash.ts'
import { parseNarInfo } from '../../src/nix/narinfo.ts'
import type { HashPart } from '../../src/nix/store-path.ts'
import { SourceFaultError, SourceMissError } from '../../src/source.ts'
import { createUpstream, type Upstream } from '../../src/upstream/upstream.ts'
import { recordingLog } from '../kit/log.ts'
import { tempDir } from '../kit/temp.ts'
import { skipWithoutVectors, vectorsDir } from '../kit/vectors.ts'
import { calm, collect } from './bytes.ts'
import { freshHosts } from './hosts.ts'

const storeDir = '/nix/store'
const HASH = '1h8dfzby9lsfkb09q7kga2pa2hzg3sv2' as HashPart

/** Genuine paths of cache.nixos.org whose NARs are among the vectors, as xz. */
const GENUINE: readonly (readonly [hashPart: string, fileHash: string])[] = [
  ['7m07282prhi2d1vl8q0fq967sg5jpvgd', '0l6nnzg0wr19y93m1q49akwxxk3j8dacmki7z2vq7kxchxmycq0n'],
  ['2dgxifvg5qxfqzw539hcr0pfb5nhfl0q', '1pb4jkyh94038cx9yznhmk44f422fnvfffvzn7f6c3dck5f8ak0f'],
  ['fn90094wwj5xwz4v153q3vz46gj6chn4', '1kayx6jd0ql777k1xiv5sdw40kvcrpavz6qj09a4qf4vgmk1k2cr'],
  ['ylsfgsgl69j7byprfj78qs3xy2f05xdf', '05cs5m13ixx2dz9nra6bb6gjx8i0szc5ffck7s8nahryy0s1wd6i'],
]

async function folder(t: TestContext): Promise<{ dir: string; upstream: Upstream }> {
  const dir = join(await tempDir(t), 'a cache, in a folder')
  await mkdir(join(dir, 'nar'), { recursive: true })
  await writeFile(join(dir, 'nix-cache-info'), 'StoreDir: /nix/store\nPriority: 7\n')
  return {
    dir,
    upstream: createUpstream(
      { url: pathToFileURL(dir), storeDir },
      { log: recordingLog(), hosts: freshHosts().hosts },
    ),
  }
}

function narInfo(changes: Record<string, string> = {}): string {
  const lines = {
    StorePath: `/nix/store/${HASH}-hello`,
    URL: 'nar/hello.nar',
    Compression: 'none',
    NarHash: 'sha256:0sjjj9z1dhilhpc8pq4154czrb79z9cm044jvn75kxcjv6v5l2m5',
    NarSize: '5',
    References: '',
  }
  return Object.entries({ ...lines, ...changes })
    .map(([name, value]) => `${name}: ${value}\n`)
    .join('')
}

void test(
  'genuine narinfos and their .nar.xz give the NARs that were signed',
  { skip: skipWithoutVectors() },
  async (t) => {
    const vectors = vectorsDir()!
    const { dir, upstream } = await folder(t)
    for (const [hashPart, fileHash] of GENUINE) {
      const text = await readFile(join(vectors, 'narinfo', `${hashPart}.narinfo`), 'utf8')
      await writeFile(join(dir, `${hashPart}.narinfo`), text)
      await copyFile(join(vectors, 'nar', `${fileHash}.nar.xz`), join(dir, parseNarInfo(text, storeDir).url))
    }
    assert.deepEqual(
      (await Array.fromAsync(upstream.hashParts!())).sort(),
      GENUINE.map(([hashPart]) => hashPart).sort(),
    )
    for (const [hashPart] of GENUINE) {
      const candidate = await upstream.lookup(hashPart as HashPart, calm)
      assert.ok(candidate?.stream)
      const bytes = await collect(candidate.stream.open(candidate.info, 0, calm))
      assert.equal(narHashFromDigest(createHash('sha256').update(bytes).digest()), candidate.info.narHash)
      const tail = await collect(candidate.stream.open(candidate.info, 17, calm))
      assert.ok(tail.equals(bytes.subarray(17)))
    }
  },
)

void test('a folder says what it is, and lists narinfos alone', async (t) => {
  const { dir, upstream } = await folder(t)
  await writeFile(join(dir, `${HASH}.narinfo`), narInfo())
  await writeFile(join(dir, 'short.narinfo'), '')
  await writeFile(join(dir, `${HASH}.ls`), '')
  assert.deepEqual(await upstream.cacheInfo(calm), { priority: 7, wantMassQuery: false })
  assert.deepEqual(await Array.fromAsync(upstream.hashParts!()), [HASH])
  assert.match(upstream.id, /^upstream:file:\/\/\/.*folder$/)
})

void test('a plain NAR is read from any offset', async (t) => {
  const { dir, upstream } = await folder(t)
  await writeFile(join(dir, `${HASH}.narinfo`), narInfo())
  await writeFile(join(dir, 'nar', 'hello.nar'), 'hello')
  const candidate = await upstream.lookup(HASH, calm)
  for (const from of [0, 1, 4, 5]) {
    const bytes = await collect(candidate!.stream!.open(candidate!.info, from, calm))
    assert.equal(bytes.toString(), 'hello'.slice(from))
  }
})

void test('what is not there is a miss', async (t) => {
  const { dir, upstream } = await folder(t)
  assert.equal(await upstream.lookup(HASH, calm), undefined)
  await writeFile(join(dir, `${HASH}.narinfo`), narInfo())
  const candidate = await upstream.lookup(HASH, calm)
  await assert.rejects(collect(candidate!.stream!.open(candidate!.info, 0, calm)), SourceMissError)
})

const OUTSIDE: readonly [string, string][] = [
  ['a name of dots', 'nar/...'],
  ['a hidden file', '.git/config'],
  ['an escaped slash', 'nar%2Fhello.nar'],
  ['an escaped NUL', 'nar/hello.nar%00'],
  ['a query', 'nar/hello.nar?x=1'],
  ['too many folders', 'nar/a/b/c/hello.nar'],
  ['an empty folder name', 'nar//hello.nar'],
]
for (const [name, url] of OUTSIDE) {
  void test(`a NAR is not opened by ${name}`, async (t) => {
    const { dir, upstream } = await folder(t)
    await writeFile(join(dir, 'nar', 'hello.nar'), 'hello')
    await writeFile(join(dir, `${HASH}.narinfo`), narInfo({ URL: url }))
    const candidate = await upstream.lookup(HASH, calm)
    await assert.rejects(
      collect(candidate!.stream!.open(candidate!.info, 0, calm)),
      (error) => error instanceof SourceFaultError && /expected a path like nar/.test(error.message),
    )
  })
}

void test('a link, a folder and a FIFO are no NARs', async (t) => {
  const { dir, upstream } = await folder(t)
  await writeFile(join(dir, 'secret'), 'hello')
  await symlink('../secret', join(dir, 'nar', 'link.nar'))
  await mkdir(join(dir, 'nar', 'folder.nar'))
  assert.equal(spawnSync('mkfifo', [join(dir, 'nar', 'fifo.nar')]).status, 0)
  for (const name of ['link', 'folder', 'fifo']) {
    await writeFile(join(dir, `${HASH}.narinfo`), narInfo({ URL: `nar/${name}.nar` }))
    const candidate = await upstream.lookup(HASH, calm)
    await assert.rejects(collect(candidate!.stream!.open(candidate!.info, 0, calm)), SourceFaultError)
  }
})

void test('a folder that is not there is no cache', async (t) => {
  const dir = join(await tempDir(t), 'nowhere')
  const upstream = createUpstream(
    { url: pathToFileURL(dir), storeDir },
    { log: recordingLog(), hosts: freshHosts().hosts },
  )
  await assert.rejects(upstream.cacheInfo(calm), { name: 'UpstreamUnfitError' })
})
