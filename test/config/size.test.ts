import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseSize } from '../../src/config/size.ts'

for (const [text, bytes] of [
  ['0', 0],
  ['0B', 0],
  ['1B', 1],
  ['20GiB', 20 * 2 ** 30],
  ['1.5 TiB', 1.5 * 2 ** 40],
  ['0.001KiB', 1],
] as const) {
  test(`${JSON.stringify(text)} is ${bytes} bytes`, () => assert.equal(parseSize(text), bytes))
}

for (const text of [
  '',
  '5',
  '5GB',
  '-1GiB',
  '1e3MiB',
  ' 1GiB',
  '1GiB ',
  '1,5GiB',
  '.5GiB',
  '999999999999999TiB',
  'GiB',
]) {
  test(`${JSON.stringify(text)} is no size`, () => assert.throws(() => parseSize(text), RangeError))
}
