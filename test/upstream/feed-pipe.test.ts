import assert from 'node:assert/strict'
import { mkdir, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { join } from 'node:path'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { pathToFileURL } from 'node:url'
import { gzipSync } from 'node:zlib'
import { SourceLieError } from '../../src/source.ts'
import { createFeedPipe } from '../../src/upstream/feed-pipe.ts'
import { tempDir } from '../kit/temp.ts'
import { body, serveCache } from './cache-server.ts'

const NAME = 'narswarm.example/main'
const options = (maxBytes = 1000): { signal: AbortSignal; maxBytes: number } => ({
  signal: AbortSignal.timeout(5000),
  maxBytes,
})

async function serve(t: TestContext, files: Record<string, string>): Promise<URL> {
  const server = createServer((request, response) => {
    const text = files[request.url ?? '']
    response.writeHead(text === undefined ? 404 : 200)
    response.end(text)
  }).listen(0, '127.0.0.1')
  t.after(() => server.close())
  await new Promise((resolve) => server.once('listening', resolve))
  return new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/feed/${NAME}`)
}

test('a file over HTTP below the prefix, with and without its final slash', async (t) => {
  const url = await serve(t, { [`/feed/${NAME}/e1/checkpoint`]: 'head' })
  for (const prefix of [url, new URL(`${url.href}/`)]) {
    const pipe = createFeedPipe(prefix, NAME)
    t.after(() => pipe.close())
    assert.equal(Buffer.from((await pipe.fetch('e1/checkpoint', options())) ?? []).toString(), 'head')
    assert.equal(await pipe.fetch('root/1', options()), undefined)
  }
})

test('a body past the cap is a lie, not a buffer', async (t) => {
  const url = await serve(t, { [`/feed/${NAME}/root/1`]: 'x'.repeat(1001) })
  const pipe = createFeedPipe(url, NAME)
  t.after(() => pipe.close())
  await assert.rejects(pipe.fetch('root/1', options()), SourceLieError)
})

test('a body with a Content-Encoding is a lie: none was asked for', async (t) => {
  const { url } = await serveCache(t, {
    '/checkpoint': body(gzipSync('head'), { 'content-encoding': 'gzip' }),
  })
  const pipe = createFeedPipe(url, NAME)
  t.after(() => pipe.close())
  await assert.rejects(pipe.fetch('checkpoint', options()), SourceLieError)
})

test('a folder: its feed files and nothing else', async (t) => {
  const dir = await tempDir(t)
  await mkdir(join(dir, 'feed', 'root'), { recursive: true })
  await writeFile(join(dir, 'feed', 'root', '1'), 'document')
  await writeFile(join(dir, 'secret'), 'no')
  const pipe = createFeedPipe(pathToFileURL(join(dir, 'feed')), NAME)
  assert.equal(Buffer.from((await pipe.fetch('root/1', options())) ?? []).toString(), 'document')
  assert.equal(await pipe.fetch('../secret', options()), undefined)
})

test('any other scheme is refused', () => {
  assert.throws(() => createFeedPipe(new URL('ftp://narswarm.example/feed'), NAME), RangeError)
})
