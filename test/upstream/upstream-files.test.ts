import assert from 'node:assert/strict'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { pathToFileURL } from 'node:url'
import { zstdCompressSync } from 'node:zlib'
import { SourceFaultError, SourceLieError } from '../../src/source.ts'
import { UpstreamUnfitError } from '../../src/upstream/errors.ts'
import { createUpstream, type Upstream } from '../../src/upstream/upstream.ts'
import { recordingLog } from '../kit/log.ts'
import { tempDir } from '../kit/temp.ts'
import { calm } from './bytes.ts'
import { body, serveCache, status, type Answer } from './cache-server.ts'
import { freshHosts } from './hosts.ts'

const some = { ...calm, maxBytes: 1_000 }

function upstreamAt(t: TestContext, url: URL): Upstream {
  const deadlines = { narInfoMs: 300, stallMs: 300 }
  const upstream = createUpstream(
    { url, storeDir: '/nix/store', deadlines },
    { log: recordingLog(), hosts: freshHosts().hosts },
  )
  t.after(() => upstream.close())
  return upstream
}

async function upstreamOf(t: TestContext, answers: Record<string, Answer>): Promise<Upstream> {
  return upstreamAt(t, (await serveCache(t, answers)).url)
}

void test('a file beside the narinfos comes with its type', async (t) => {
  const upstream = await upstreamOf(t, { '/log/abc-x.drv': body('built', { 'content-type': 'text/plain' }) })
  const file = await upstream.file('log/abc-x.drv', some)
  assert.equal(String(file?.bytes), 'built')
  assert.equal(file?.contentType, 'text/plain')
  assert.equal(await upstream.file('log/other.drv', some), undefined)
})

void test('a log that is stored compressed comes unpacked', async (t) => {
  const answer = body(zstdCompressSync('built'), { 'content-encoding': 'zstd' })
  const upstream = await upstreamOf(t, { '/log/x': answer })
  assert.equal(String((await upstream.file('log/x', some))?.bytes), 'built')
})

void test('names are escaped, so that they stay one path', async (t) => {
  const upstream = await upstreamOf(t, {
    '/log/a%3Fb%23c%25%2Bd': body('1'),
    '/realisations/sha256%3Aab!out.doi': body('2'),
  })
  assert.equal(String((await upstream.file('log/a?b#c%+d', some))?.bytes), '1')
  assert.equal(String((await upstream.file('realisations/sha256:ab!out.doi', some))?.bytes), '2')
})

for (const name of ['', '/x', 'log/', 'log//x', '../x', 'log/../../x', '.', 'log/./x']) {
  void test(`a file called ${JSON.stringify(name)} is nobody's`, async (t) => {
    const { url, requests } = await serveCache(t, {})
    const upstream = upstreamAt(t, new URL('/base/', url))
    await assert.rejects(upstream.file(name, some), RangeError)
    assert.deepEqual(requests, [])
  })
}

for (const name of ['%2e%2e/x', '..\\x', 'http://127.0.0.1/x', 'a:b']) {
  void test(`a file called ${JSON.stringify(name)} is looked for below the cache`, async (t) => {
    const { url, requests } = await serveCache(t, {})
    const upstream = upstreamAt(t, new URL('/base/', url))
    await (name.includes('//')
      ? assert.rejects(upstream.file(name, some), RangeError)
      : upstream.file(name, some))
    assert.ok(requests.every(({ path }) => path.startsWith('/base/')))
  })
}

const packed = (bytes: Buffer, encoding: string): Answer => body(bytes, { 'content-encoding': encoding })
const BAD: readonly [string, Answer, typeof SourceLieError | typeof SourceFaultError][] = [
  ['too many bytes', body('x'.repeat(1_001)), SourceLieError],
  ['too many bytes once unpacked', packed(zstdCompressSync('x'.repeat(1_001)), 'zstd'), SourceLieError],
  ['an unknown encoding', packed(Buffer.from('x'), 'aes128gcm'), SourceLieError],
  ['half of a zstd frame', packed(zstdCompressSync('built').subarray(0, 9), 'zstd'), SourceFaultError],
  ['status 500', status(500), SourceFaultError],
  ['no answer', () => {}, SourceFaultError],
  ['a body that stops', (response) => response.writeHead(200).write('x'), SourceFaultError],
]
for (const [what, answer, expected] of BAD) {
  void test(`a file with ${what} is not had`, async (t) => {
    const upstream = await upstreamOf(t, { '/log/x': answer })
    await assert.rejects(upstream.file('log/x', some), expected)
  })
}

void test('a cache that is not used is not asked for files', async (t) => {
  const upstream = await upstreamOf(t, { '/log/x': body('built') })
  await assert.rejects(upstream.cacheInfo(calm), UpstreamUnfitError)
  assert.equal(await upstream.file('log/x', some), undefined)
})

void test('a folder has files too, by their plain names', async (t) => {
  const dir = await tempDir(t)
  await mkdir(join(dir, 'realisations'))
  await mkdir(join(dir, 'log'))
  await writeFile(join(dir, 'realisations', 'sha256:ab!out.doi'), '{}')
  await writeFile(join(dir, 'log', 'x?=+.drv'), 'built')
  const upstream = upstreamAt(t, pathToFileURL(dir))
  assert.equal(String((await upstream.file('realisations/sha256:ab!out.doi', some))?.bytes), '{}')
  assert.equal(String((await upstream.file('log/x?=+.drv', some))?.bytes), 'built')
  assert.equal(await upstream.file('log/y', some), undefined)
  await assert.rejects(upstream.file('log/.hidden', some), SourceFaultError)
  await assert.rejects(upstream.file('log/..%2f..%2fetc', some), SourceFaultError)
})
