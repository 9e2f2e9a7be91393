import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { bunzip2 } from '../../src/upstream/bunzip2.ts'
import { CompressedDataError } from '../../src/upstream/errors.ts'
import { collect, inChunks } from './bytes.ts'

/** `printf 'hello, old NAR\n' | bzip2` */
const HELLO = Buffer.from(
  'QlpoOTFBWSZTWbbuNEkAAATXAAAQQAQgARAABkSgACIDTQ0IBpposhYcS4oMfF3JFOFCQtu40SQ=',
  'base64',
)
/** `bzip2 < /dev/null` */
const EMPTY = Buffer.from('QlpoORdyRThQkAAAAAA=', 'base64')

const haveBzip2 = spawnSync('bzip2', ['--help'], { stdio: 'ignore' }).error === undefined

function bzip2(bytes: Uint8Array, level: string): Buffer {
  const { stdout, status } = spawnSync('bzip2', [level, '-c'], { input: bytes, maxBuffer: 2 ** 30 })
  assert.equal(status, 0)
  return stdout
}

function decode(bytes: Uint8Array, chunkBytes = 4096): Promise<Buffer> {
  return collect(bunzip2(inChunks(bytes, chunkBytes)))
}

/** Bits as text, for streams that no compressor writes. */
function fromBits(bits: string): Buffer {
  const padded = bits.padEnd(Math.ceil(bits.length / 8) * 8, '0')
  return Buffer.from(padded.match(/.{8}/g)!.map((byte) => Number.parseInt(byte, 2)))
}

function bits(value: number | bigint, count: number): string {
  return value.toString(2).padStart(count, '0')
}

/** A block of the one byte 'a' whose coded symbols are given: RUNA is 0, RUNB 10, the end of the block 11. */
function blockOf(symbols: string, origin = 0): Buffer {
  const header = bits(0x425a6831, 32) + bits(0x314159265359n, 48) + bits(0, 32) + '0' + bits(origin, 24)
  // 'a' is 0x61: row 6, column 1.
  const map = bits(0x8000 >> 6, 16) + bits(0x8000 >> 1, 16)
  const selectors = bits(2, 3) + bits(1, 15) + '0'
  // Lengths 1, 2, 2: start at 1, stay; up by one, stay; stay. Twice, since there are at least two tables.
  const table = `${bits(1, 5)}01000`
  return fromBits(header + map + selectors + table + table + symbols)
}

void test('a small stream, byte by byte', async () => {
  assert.equal((await decode(HELLO, 1)).toString(), 'hello, old NAR\n')
})

void test('a stream of nothing', async () => {
  assert.equal((await decode(EMPTY)).length, 0)
})

void test('concatenated streams are one', async () => {
  const three = Buffer.concat([HELLO, EMPTY, HELLO])
  assert.equal((await decode(three, 7)).toString(), 'hello, old NAR\nhello, old NAR\n')
})

const CONTENTS: readonly [string, () => Buffer][] = [
  ['one byte', () => Buffer.from('a')],
  ['four equal bytes', () => Buffer.from('aaaa')],
  [
    'runs around the length byte',
    () => Buffer.from(`${'a'.repeat(4)}b${'a'.repeat(259)}c${'a'.repeat(260)}`),
  ],
  ['more than one block of zeros', () => Buffer.alloc(50_000_000)],
  ['five blocks of a program', () => readFileSync(process.execPath).subarray(0, 4_300_000)],
]
for (const [name, contents] of CONTENTS) {
  for (const level of ['-1', '-9']) {
    void test(
      `as bzip2 ${level} wrote it: ${name}`,
      { skip: haveBzip2 ? false : 'no bzip2 on PATH' },
      async () => {
        const plain = contents()
        assert.ok((await decode(bzip2(plain, level), 65_536)).equals(plain))
      },
    )
  }
}

const at = (index: number, value: number): Buffer => {
  const changed = Buffer.from(HELLO)
  changed[index] = value
  return changed
}
const MALFORMED: readonly [string, Buffer, RegExp][] = [
  ['another magic', at(0, 0x43), /magic bytes 'BZh'/],
  ['block size 0', at(3, 0x30), /block size of 1 to 9/],
  ['a block of another magic', at(4, 0), /magic bytes of a block/],
  ['a randomised block', at(14, 0x80), /not randomised/],
  ['a changed checksum of the block', at(10, 0), /checksum of the block/],
  ['a changed checksum of the stream', at(HELLO.length - 2, 0), /checksum of the stream/],
  ['bytes after the end', Buffer.concat([HELLO, Buffer.from('junk')]), /magic bytes 'BZh'/],
  ['a run of 40 RUNA, longer than 2^31', blockOf(`${'0'.repeat(40)}11`), /run within the block/],
  ['a run of 40 RUNB', blockOf(`${'10'.repeat(40)}11`), /run within the block/],
  ['an origin behind the block', blockOf('011', 5), /origin within the block/],
]
for (const [name, stream, expected] of MALFORMED) {
  void test(`refused: ${name}`, async () => {
    await assert.rejects(decode(stream), (error) => {
      assert.ok(error instanceof CompressedDataError, String(error))
      assert.match(error.message, expected)
      return true
    })
  })
}

void test('cut anywhere, it is truncated and not malformed', async () => {
  for (let length = 0; length < HELLO.length; length++) {
    await assert.rejects(decode(HELLO.subarray(0, length)), { name: 'CompressedDataError', truncated: true })
  }
})

void test('the block built by hand is what it should be up to its checksum', async () => {
  await assert.rejects(decode(blockOf('011')), /checksum of the block/)
})
