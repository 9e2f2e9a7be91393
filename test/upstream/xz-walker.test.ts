import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { createXzWalker } from '../../src/upstream/xz-walker.ts'
import { CompressedDataError } from '../../src/upstream/errors.ts'

const skip = spawnSync('xz', ['--version'], { stdio: 'ignore' }).error === undefined ? false : 'no xz on PATH'
const MAX = 128 * 2 ** 20

function xz(bytes: Uint8Array, ...args: string[]): Buffer {
  const { stdout, status, stderr } = spawnSync('xz', ['-c', ...args], { input: bytes, maxBuffer: 2 ** 30 })
  assert.equal(status, 0, stderr.toString())
  return stdout
}

function walk(bytes: Uint8Array, chunkBytes = bytes.length, maxDictionaryBytes = MAX): void {
  const walker = createXzWalker({ maxDictionaryBytes })
  for (let at = 0; at < bytes.length; at += chunkBytes) walker.push(bytes.subarray(at, at + chunkBytes))
  walker.end()
}

/** `xz < /dev/null` */
const EMPTY = Buffer.from('/Td6WFoAAATm1rRGAAAAABzfRCEftvN9AQAAAAAEWVo=', 'base64')
const noise = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * i * 2_654_435_761) >>> 11))

const SHAPES: readonly [string, string[]][] = [
  ['no option', []],
  ['no check', ['--check=none']],
  ['crc32', ['--check=crc32']],
  ['many blocks with their sizes', ['--block-size=10000', '-T2']],
]
for (const [name, args] of SHAPES) {
  for (const chunkBytes of [1, 7, 65_536]) {
    void test(`followed to its end in chunks of ${chunkBytes}: xz with ${name}`, { skip }, () => {
      walk(xz(noise, ...args), chunkBytes)
      walk(xz(Buffer.alloc(100_000), ...args), chunkBytes)
    })
  }
}

const UNSUPPORTED: readonly [string, string[], RegExp][] = [
  ['a check of SHA-256', ['--check=sha256'], /offset 12: a check of type 10/],
  ['a filter for x86', ['--x86', '--lzma2=preset=1'], /offset 2\d: a filter before LZMA2/],
  ['a delta', ['--delta=dist=4', '--lzma2=preset=1'], /offset 2\d: a filter before LZMA2/],
]
for (const [name, args, expected] of UNSUPPORTED) {
  void test(`unsupported, as the decoder has it not: ${name}`, { skip }, () => {
    assert.throws(() => walk(xz(noise, ...args)), { name: 'UnsupportedDataError', message: expected })
  })
}

void test('concatenated streams with padding in fours', () => {
  walk(Buffer.concat([EMPTY, EMPTY, Buffer.alloc(8), EMPTY, Buffer.alloc(4)]), 3)
})

void test('a dictionary above the limit is refused, at the limit it is taken', { skip }, () => {
  const large = xz(noise, '--lzma2=preset=6,dict=192MiB')
  assert.throws(
    () => walk(large),
    /asked for before offset 24: a dictionary of 201326592 bytes, at most 134217728/,
  )
  walk(xz(noise, '--lzma2=preset=6,dict=128MiB'))
})

void test('a dictionary above the limit is found in the second block of the second stream', { skip }, () => {
  const good = xz(noise, '--block-size=100000')
  const large = xz(noise, '--lzma2=preset=0,dict=1MiB', '--block-size=100000')
  const walker = createXzWalker({ maxDictionaryBytes: 2 ** 19 })
  assert.throws(
    () => walker.push(Buffer.concat([xz(noise, '--lzma2=preset=0,dict=512KiB'), large])),
    /dictionary/,
  )
  walk(Buffer.concat([good, large]))
})

void test('cut anywhere, it is truncated', { skip }, () => {
  const whole = xz(noise.subarray(0, 700), '--block-size=400')
  for (let length = 0; length < whole.length; length++) {
    assert.throws(() => walk(whole.subarray(0, length)), { name: 'CompressedDataError', truncated: true })
  }
})

const MALFORMED: readonly [string, Buffer, RegExp][] = [
  [
    'gzip',
    Buffer.from('1f8b0800000000000003cb48cdc9c9070086a6103605000000', 'hex'),
    /magic bytes of an xz stream/,
  ],
  [
    'a page of HTML',
    Buffer.from('<!DOCTYPE html><html><body>Log in</body></html>'),
    /magic bytes of an xz stream/,
  ],
  [
    'bytes after the end',
    Buffer.concat([EMPTY, Buffer.from('trailing garbage')]),
    /magic bytes of an xz stream/,
  ],
  ['padding before the first stream', Buffer.concat([Buffer.alloc(4), EMPTY]), /magic bytes of an xz stream/],
  ['padding not in fours', Buffer.concat([EMPTY, Buffer.alloc(2), EMPTY]), /magic bytes of an xz stream/],
  ['reserved stream flags', changed(EMPTY, 7, 0x14), /stream flags/],
  ['an index of one block too many', changed(EMPTY, 13, 1), /index of 0 blocks/],
  ['another footer', changed(EMPTY, 31, 0), /stream footer/],
]
for (const [name, bytes, expected] of MALFORMED) {
  void test(`refused: ${name}`, () => {
    assert.throws(
      () => walk(bytes),
      (error) => {
        assert.ok(error instanceof CompressedDataError)
        assert.match(error.message, expected)
        assert.equal(error.truncated, false)
        return true
      },
    )
  })
}

function changed(bytes: Buffer, index: number, value: number): Buffer {
  const copy = Buffer.from(bytes)
  copy[index] = value
  return copy
}
