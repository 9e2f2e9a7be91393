import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { brotliCompressSync, constants, gzipSync, zstdCompressSync } from 'node:zlib'
import * as fc from 'fast-check'
import { XZ_MAX_DICTIONARY_BYTES } from '../../src/limits.ts'
import type { Compression } from '../../src/nix/narinfo.ts'
import { decompress } from '../../src/upstream/decompress.ts'
import { CompressedDataError } from '../../src/upstream/errors.ts'
import { createXzThreads, type XzThreads } from '../../src/upstream/xz-threads.ts'
import { calm, collect, inChunks } from './bytes.ts'
import { storeXz } from './store-xz.ts'

function command(name: string): (bytes: Uint8Array, ...args: string[]) => Buffer {
  return (bytes, ...args) => {
    const { stdout, status, stderr } = spawnSync(name, ['-c', ...args], { input: bytes, maxBuffer: 2 ** 30 })
    assert.equal(status, 0, stderr.toString())
    return stdout
  }
}
const has = (name: string): boolean => spawnSync(name, ['--help'], { stdio: 'ignore' }).error === undefined

/** At its best quality, the default, it is the slowest of all by far. */
const brotli = (bytes: Uint8Array): Buffer =>
  brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 4 } })

const xzThreads = createXzThreads()
/** Each codec with what compresses for it, and why it may not be tested here. */
const CODECS: readonly {
  name: string
  compression: Compression
  compress: (bytes: Uint8Array) => Buffer
  skip: string | false
}[] = [
  { name: 'gzip', compression: 'gzip', compress: gzipSync, skip: false },
  { name: 'zstd', compression: 'zstd', compress: zstdCompressSync, skip: false },
  { name: 'br', compression: 'br', compress: brotli, skip: false },
  {
    name: 'bzip2',
    compression: 'bzip2',
    compress: command('bzip2'),
    skip: has('bzip2') ? false : 'no bzip2 on PATH',
  },
  { name: 'xz that only stores', compression: 'xz', compress: storeXz, skip: false },
  {
    name: 'xz',
    compression: 'xz',
    compress: command('xz'),
    skip: has('xz') ? false : 'no xz on PATH to compress with',
  },
]

const program = readFileSync(process.execPath).subarray(0, 1_500_000)

for (const { name, compression, compress, skip } of CODECS) {
  const decode = (bytes: Uint8Array, maxBytes: number, chunkBytes = 16_384): Promise<Buffer> =>
    collect(
      decompress(compression, inChunks(bytes, chunkBytes), {
        ...calm,
        maxBytes,
        xzThreads,
      }),
    )
  const refused = (expected: RegExp, truncated: boolean) => (error: unknown) => {
    assert.ok(error instanceof CompressedDataError, String(error))
    assert.match(error.message, expected)
    assert.equal(error.truncated, truncated, error.message)
    return true
  }

  void test(`${name}: gives back what was compressed`, { skip }, async () => {
    for (const chunkBytes of [1000, 65_536, 2 ** 30]) {
      assert.ok((await decode(compress(program), program.length, chunkBytes)).equals(program))
    }
  })

  void test(`${name}: gives back nothing`, { skip }, async () => {
    assert.equal((await decode(compress(Buffer.alloc(0)), 1)).length, 0)
  })

  void test(`${name}: gives back anything`, { skip }, async () => {
    const chunkBytes = fc.integer({ min: 1, max: 100 })
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 500 }), chunkBytes, async (bytes, size) => {
        assert.ok((await decode(compress(bytes), bytes.length, size)).equals(bytes))
      }),
      { numRuns: 15 },
    )
  })

  void test(`${name}: cut, it is truncated`, { skip }, async () => {
    const whole = compress(program)
    for (const length of [0, 1, 16, 4096, whole.length >> 1, whole.length - 16, whole.length - 1]) {
      await assert.rejects(decode(whole.subarray(0, length), program.length), refused(/./, true))
    }
  })

  void test(`${name}: a changed byte is refused`, { skip }, async () => {
    const changed = compress(program)
    changed[changed.length >> 1]! ^= 0xff
    // brotli and Node's zstd carry no checksum: only the size or the NarHash can tell.
    const plain = await decode(changed, program.length).catch((error: unknown) => {
      assert.ok(error instanceof CompressedDataError, String(error))
    })
    assert.ok(plain === undefined || compression === 'br' || compression === 'zstd')
    assert.ok(plain?.equals(program) !== true)
  })

  void test(`${name}: bytes after the end are refused, wherever the chunks are cut`, { skip }, async () => {
    const whole = compress(Buffer.from('hello'))
    for (const tail of ['trailing garbage', '\0\0\0\0\0\0\0']) {
      const bytes = Buffer.concat([whole, Buffer.from(tail)])
      for (const chunkBytes of [1, whole.length, whole.length + 1, bytes.length]) {
        await assert.rejects(decode(bytes, 100, chunkBytes), CompressedDataError)
      }
    }
  })

  void test(`${name}: another format is refused`, { skip }, async () => {
    const other = Buffer.from('<!DOCTYPE html><html><body>Please log in to use this network</body></html>')
    await assert.rejects(decode(other, 1000), refused(/./, false))
  })

  void test(`${name}: a bomb stops one byte past the announced size`, { skip }, async () => {
    const bomb = compress(Buffer.alloc(100_000_000))
    let bytes = 0
    const pieces = decompress(compression, inChunks(bomb, 16_384), {
      ...calm,
      maxBytes: 1000,
      xzThreads,
    })
    await assert.rejects(
      async () => {
        for await (const piece of pieces) bytes += piece.length
      },
      refused(/more than the 1000 bytes that were announced/, false),
    )
    assert.ok(bytes <= 1000)
  })

  void test(`${name}: an abort ends it with the caller's reason`, { skip }, async () => {
    const abort = new AbortController()
    const reason = new Error('enough')
    const pieces = decompress(compression, inChunks(compress(program), 4096), {
      signal: abort.signal,
      maxBytes: program.length,
      xzThreads,
    })
    await assert.rejects(
      async () => {
        for await (const piece of pieces) {
          assert.ok(piece.length > 0)
          abort.abort(reason)
          abort.signal.throwIfAborted()
        }
      },
      (error) => error === reason,
    )
  })

  void test(`${name}: an error of the stream it reads is passed on as it is`, { skip }, async () => {
    const broken = new Error('connection reset')
    const input = async function* (): AsyncGenerator<Uint8Array> {
      yield compress(program).subarray(0, 5000)
      throw broken
    }
    const options = { ...calm, maxBytes: program.length, xzThreads }
    await assert.rejects(collect(decompress(compression, input(), options)), (error) => error === broken)
  })
}

for (const { name, compression, compress, skip } of CODECS.filter((one) => one.name !== 'br')) {
  void test(`${name}: concatenated streams are one, wherever the chunks are cut`, { skip }, async () => {
    const first = compress(Buffer.from('hello '))
    const both = Buffer.concat([first, compress(Buffer.from('world'))])
    for (const chunkBytes of [1, first.length - 1, first.length, first.length + 1, both.length]) {
      const options = { ...calm, maxBytes: 11, xzThreads }
      const plain = await collect(decompress(compression, inChunks(both, chunkBytes), options))
      assert.equal(plain.toString(), 'hello world')
    }
  })
}

function decodeZstd(bytes: Uint8Array, maxBytes: number, chunkBytes: number): Promise<Buffer> {
  return collect(decompress('zstd', inChunks(bytes, chunkBytes), { ...calm, maxBytes, xzThreads }))
}
const SKIPPABLE = Buffer.from('502a4d180400000061626364', 'hex')

void test('zstd: skippable frames are skipped, before, between and after', async () => {
  const frame = zstdCompressSync(Buffer.from('hello'))
  const bytes = Buffer.concat([SKIPPABLE, frame, SKIPPABLE, frame, SKIPPABLE])
  for (const chunkBytes of [1, 5, SKIPPABLE.length, bytes.length]) {
    assert.equal((await decodeZstd(bytes, 10, chunkBytes)).toString(), 'hellohello')
  }
})

void test('zstd: a skippable frame that is cut is truncated', async () => {
  const bytes = Buffer.concat([zstdCompressSync(Buffer.from('hello')), SKIPPABLE.subarray(0, -2)])
  for (const chunkBytes of [1, bytes.length]) {
    await assert.rejects(decodeZstd(bytes, 10, chunkBytes), { name: 'CompressedDataError', truncated: true })
  }
})

void test('zstd: a window above 2^27 is refused', async () => {
  // A frame header with a window of 2^31, then an empty last block.
  const frame = Buffer.from('28b52ffd00a8010000', 'hex')
  await assert.rejects(decodeZstd(frame, 10, 100), /zstd: .*too much memory/)
})

const EMPTY_FRAMES: readonly [Compression, Buffer][] = [
  ['gzip', gzipSync(Buffer.alloc(0))],
  ['zstd', zstdCompressSync(Buffer.alloc(0))],
  ['xz', Buffer.from('/Td6WFoAAATm1rRGAAAAABzfRCEftvN9AQAAAAAEWVo=', 'base64')],
  ['bzip2', Buffer.from('QlpoORdyRThQkAAAAAA=', 'base64')],
]
for (const [compression, frame] of EMPTY_FRAMES) {
  void test(`${compression}: empty frames without end are refused`, async () => {
    const many = Buffer.concat(Array.from({ length: 4000 }, () => frame))
    const endless = async function* (): AsyncGenerator<Uint8Array> {
      for (;;) yield many
    }
    await assert.rejects(
      collect(decompress(compression, endless(), { ...calm, maxBytes: 1000, xzThreads })),
      /cannot be 1000 bytes compressed|bytes after the end/,
    )
  })
}

void test('none: passes the very chunks on, up to the announced size', async () => {
  const chunk = Buffer.from('abc')
  const once = async function* (): AsyncGenerator<Uint8Array> {
    yield chunk
  }
  assert.equal(
    (await Array.fromAsync(decompress('none', once(), { ...calm, maxBytes: 3, xzThreads })))[0],
    chunk,
  )
  await assert.rejects(
    collect(decompress('none', once(), { ...calm, maxBytes: 2, xzThreads })),
    CompressedDataError,
  )
})

void test('xz: a dictionary of 1.5 GiB is refused before a decoder sees it', async () => {
  // Stream header, then a block header that asks for dictionary size 37: 3 * 2^29 bytes.
  const head = Buffer.from('fd377a585a000004e6d6b446020021012500000000000000', 'hex')
  const untouched: XzThreads = { lend: () => assert.fail('a decoder was asked for') }
  await assert.rejects(
    collect(decompress('xz', inChunks(head, 100), { ...calm, maxBytes: 1000, xzThreads: untouched })),
    {
      name: 'UnsupportedDataError',
      message: new RegExp(`dictionary of 1610612736 bytes, at most ${XZ_MAX_DICTIONARY_BYTES}`),
    },
  )
})
