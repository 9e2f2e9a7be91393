import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import type { Worker } from 'node:worker_threads'
import { XZ_PIECE_BYTES, XZ_PIECES_AHEAD_COUNT } from '../../src/limits.ts'
import { CompressedDataError } from '../../src/upstream/errors.ts'
import { createXzThreads, type XzThreads } from '../../src/upstream/xz-threads.ts'
import { decodeXz } from '../../src/upstream/xz.ts'
import { tempDir } from '../kit/temp.ts'
import { calm, collect, inChunks } from './bytes.ts'
import { storeXz } from './store-xz.ts'

const noise = randomBytes(3_000_000)
const stored = storeXz(noise)

const decode = (xzThreads: XzThreads, bytes: Uint8Array = stored): Promise<Buffer> =>
  collect(decodeXz(inChunks(bytes, 100_000), { ...calm, xzThreads }))

/** Gives the first 200,000 bytes of `stored`, then nothing until it is told to. */
function stalling(): { chunks: AsyncIterable<Uint8Array>; goOn: () => void } {
  const { promise, resolve } = Promise.withResolvers<void>()
  const chunks = async function* (): AsyncGenerator<Uint8Array> {
    yield stored.subarray(0, 200_000)
    await promise
    yield stored.subarray(200_000)
  }
  return { chunks: chunks(), goOn: resolve }
}

/** Real threads, and which of them were lent. */
function recorded(limits: Parameters<typeof createXzThreads>[0] = {}): {
  xzThreads: XzThreads
  workers: Worker[]
} {
  const inner = createXzThreads(limits)
  const workers: Worker[] = []
  const lend: XzThreads['lend'] = async (options) => {
    const thread = await inner.lend(options)
    workers.push(thread.worker)
    return thread
  }
  return { xzThreads: { lend }, workers }
}

void test('a stream that waits for its input does not hold up another', async () => {
  const xzThreads = createXzThreads()
  const { chunks, goOn } = stalling()
  const stalled = collect(decodeXz(chunks, { ...calm, xzThreads }))
  assert.ok((await decode(xzThreads)).equals(noise))
  goOn()
  assert.ok((await stalled).equals(noise))
})

void test('a thread serves one stream after the other', async () => {
  const { xzThreads, workers } = recorded()
  for (let i = 0; i < 3; i++) assert.ok((await decode(xzThreads)).equals(noise))
  assert.equal(workers.length, 3)
  assert.equal(new Set(workers).size, 1)
})

void test('at most two threads are kept, and those end after a while', async () => {
  const { xzThreads, workers } = recorded({ idleMs: 1 })
  const exited = () => workers.map((worker) => new Promise((resolve) => worker.once('exit', resolve)))
  const three = [stalling(), stalling(), stalling()]
  const streams = three.map(({ chunks }) => collect(decodeXz(chunks, { ...calm, xzThreads })))
  while (workers.length < 3) await setTimeout(1)
  const exits = exited()
  for (const { goOn } of three) goOn()
  await Promise.all(streams)
  await Promise.all(exits)
  assert.ok((await decode(xzThreads)).equals(noise))
  assert.equal(new Set(workers).size, 4)
})

void test('streams beyond the most at once wait their turn', async () => {
  const { xzThreads, workers } = recorded({ maxCount: 2 })
  const streams = Array.from({ length: 7 }, () => decode(xzThreads))
  for (const plain of await Promise.all(streams)) assert.ok(plain.equals(noise))
  assert.equal(new Set(workers).size, 2)
})

void test('who waits for a turn is aborted with his reason, and loses no place for others', async () => {
  const xzThreads = createXzThreads({ maxCount: 1 })
  const { chunks, goOn } = stalling()
  const first = collect(decodeXz(chunks, { ...calm, xzThreads }))
  const abort = new AbortController()
  const reason = new Error('enough')
  const second = collect(decodeXz(inChunks(stored, 100_000), { signal: abort.signal, xzThreads }))
  const third = decode(xzThreads)
  await setTimeout(10)
  abort.abort(reason)
  await assert.rejects(second, (error) => error === reason)
  goOn()
  await first
  assert.ok((await third).equals(noise))
})

const ENDINGS: readonly [string, (xzThreads: XzThreads) => Promise<unknown>][] = [
  [
    'aborted while it waits for input',
    async (xzThreads) => {
      const abort = new AbortController()
      const { chunks } = stalling()
      const pieces = decodeXz(chunks, { signal: abort.signal, xzThreads })
      await pieces.next()
      abort.abort(new Error('enough'))
      await assert.rejects(async () => {
        for await (const piece of pieces) assert.ok(piece.length > 0)
      }, /enough/)
    },
  ],
  [
    'left by its reader',
    async (xzThreads) => {
      for await (const piece of decodeXz(inChunks(stored, 1000), { ...calm, xzThreads })) {
        assert.ok(piece.length > 0)
        break
      }
    },
  ],
  [
    'corrupt',
    async (xzThreads) => {
      const changed = Buffer.from(stored)
      changed[changed.length >> 1]! ^= 0xff
      await assert.rejects(decode(xzThreads, changed), CompressedDataError)
    },
  ],
  ['cut', (xzThreads) => assert.rejects(decode(xzThreads, stored.subarray(0, 5000)), { truncated: true })],
]
for (const [name, run] of ENDINGS) {
  void test(`the thread of a stream ends with it, and its place is free again: ${name}`, async () => {
    const { xzThreads, workers } = recorded({ maxCount: 1 })
    await run(xzThreads)
    assert.ok((await decode(xzThreads)).equals(noise))
    assert.equal(new Set(workers).size, 2)
    // -1: it has exited.
    assert.equal(workers[0]?.threadId, -1)
  })
}

void test('a thread that dies is no fault of the data', async () => {
  const { xzThreads, workers } = recorded()
  const pieces = decodeXz(stalling().chunks, { ...calm, xzThreads })
  await pieces.next()
  await workers[0]!.terminate()
  await assert.rejects(
    async () => {
      for await (const piece of pieces) assert.ok(piece.length > 0)
    },
    (error) => {
      assert.ok(error instanceof Error && !(error instanceof CompressedDataError))
      assert.match(error.message, /thread of the xz decoder ended/)
      return true
    },
  )
})

void test('all that came before a break is decoded', async () => {
  const broken = new Error('connection reset')
  const chunks = async function* (): AsyncGenerator<Uint8Array> {
    yield* inChunks(stored.subarray(0, 1_000_000), 50_000)
    throw broken
  }
  const parts: Uint8Array[] = []
  await assert.rejects(
    async () => {
      for await (const piece of decodeXz(chunks(), { ...calm, xzThreads: createXzThreads() }))
        parts.push(piece)
    },
    (error) => error === broken,
  )
  const plain = Buffer.concat(parts)
  assert.ok(plain.equals(noise.subarray(0, plain.length)))
  assert.ok(plain.length > 1_000_000 - 1000)
})

void test('the chunks stay their owner’s, those of the shared pool too', async () => {
  const plain = Buffer.from('hello')
  const chunk = Buffer.from(storeXz(plain))
  const neighbour = Buffer.from('untouched')
  const once = async function* (): AsyncGenerator<Uint8Array> {
    yield chunk
  }
  const decoded = await collect(decodeXz(once(), { ...calm, xzThreads: createXzThreads() }))
  assert.ok(decoded.equals(plain))
  assert.equal(chunk.length, storeXz(plain).length)
  assert.equal(neighbour.toString(), 'untouched')
})

void test('a reader that pauses stops the source', async () => {
  const large = storeXz(randomBytes(20_000_000))
  let bytes = 0
  const counted = async function* (): AsyncGenerator<Uint8Array> {
    for await (const chunk of inChunks(large, 16_384)) {
      bytes += chunk.length
      yield chunk
    }
  }
  const pieces = decodeXz(counted(), { ...calm, xzThreads: createXzThreads() })
  await pieces.next()
  for (let before = 0; before !== bytes;) {
    before = bytes
    await setTimeout(200)
  }
  await pieces.return()
  // Both ways, and what the decoder has in hand.
  assert.ok(bytes < (2 * XZ_PIECES_AHEAD_COUNT + 8) * XZ_PIECE_BYTES, `${bytes} bytes were read`)
})

const skip = spawnSync('xz', ['--help'], { stdio: 'ignore' }).error && 'no xz on PATH to compress with'
void test('a bomb that nobody reads takes no memory', { skip }, async () => {
  const bomb = spawnSync('xz', ['-c', '-0'], { input: Buffer.alloc(400_000_000) }).stdout
  const pieces = decodeXz(inChunks(bomb, 1_000), { ...calm, xzThreads: createXzThreads() })
  await pieces.next()
  const before = process.memoryUsage.rss()
  await setTimeout(1500)
  const grown = process.memoryUsage.rss() - before
  await pieces.return()
  assert.ok(grown < 50_000_000, `${grown} bytes more`)
})

void test('the process ends by itself when decoding is done, with threads at rest', async (t) => {
  const script = `
    const { createXzThreads } = await import(${JSON.stringify(new URL('../../src/upstream/xz-threads.ts', import.meta.url))})
    const { decodeXz } = await import(${JSON.stringify(new URL('../../src/upstream/xz.ts', import.meta.url))})
    const bytes = Buffer.from('${storeXz(Buffer.from('hello')).toString('base64')}', 'base64')
    const xzThreads = createXzThreads({ idleMs: 2 ** 30 })
    const { signal } = new AbortController()
    const chunks = async function* () { yield bytes }
    for await (const piece of decodeXz(chunks(), { signal, xzThreads })) process.stdout.write(piece)
  `
  // A file: workers inherit --eval and its kind, and do not like them.
  const file = join(await tempDir(t), 'decode.mjs')
  await writeFile(file, script)
  const child = spawnSync(process.execPath, [file], { timeout: 60_000 })
  assert.equal(child.stdout.toString(), 'hello')
  assert.equal(child.status, 0, `${child.signal}: ${child.stderr.toString()}`)
})
