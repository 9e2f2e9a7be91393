import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { readVarint, varintBytes, VarintError, writeVarint } from '../../src/dag/varint.ts'
import { varint } from './protobuf.ts'

function write(value: number): Uint8Array {
  const bytes = new Uint8Array(varintBytes(value))
  assert.equal(writeVarint(bytes, 0, value), bytes.length)
  return bytes
}

test('F14 numbers that a signed 32 bit shift gets wrong', async (t) => {
  const table = [2 ** 31 - 1, 2 ** 31, 3 * 2 ** 30, 2 ** 32 - 1, 2 ** 32, 2 ** 35, 2 ** 53 - 1]
  for (const value of [0, 1, 127, 128, 16_383, 16_384, ...table]) {
    await t.test(String(value), () => {
      assert.deepEqual(Buffer.from(write(value)), varint(value))
      assert.deepEqual(readVarint(write(value), 0), { value, end: varintBytes(value) })
    })
  }
})

test('all safe integers are as BigInt writes them, and come back', () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), fc.nat(9), (value, offset) => {
      const bytes = write(value)
      assert.deepEqual(Buffer.from(bytes), varint(value))
      const padded = Buffer.concat([Buffer.alloc(offset, 0xff), bytes, Buffer.of(0xff)])
      assert.deepEqual(readVarint(padded, offset), { value, end: offset + bytes.length })
    }),
  )
})

test('what is no varint of ours is refused', async (t) => {
  const table: [string, string][] = [
    ['nothing', ''],
    ['cut off', '80'],
    ['0 in two bytes', '8000'],
    ['1 in ten bytes', '81808080808080808000'],
    ['2^53', '8080808080808010'],
    ['2^64 - 1', 'ffffffffffffffffff01'],
    ['eleven bytes', '8080808080808080808001'],
  ]
  for (const [title, hex] of table) {
    await t.test(title, () => {
      assert.throws(() => readVarint(Buffer.from(hex, 'hex'), 0), VarintError)
    })
  }
})
