import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseDownlink, prefersCoding } from '../../src/http/accept-encoding.ts'

const ACCEPTED: [header: string | undefined, zstd: boolean][] = [
  [undefined, false],
  ['', false],
  ['zstd', true],
  ['ZSTD', true],
  ['gzip, zstd', true],
  ['gzip;q=1.0 ,\tzstd ; q=0.5', true],
  ['zstd;q=0', false],
  ['zstd;q=0.000', false],
  ['zstd;q=0.001', true],
  ['zstd;q=1.000', true],
  ['zstd;q=0, *', false],
  ['*', false],
  ['identity', false],
  ['identity;q=0.5, zstd', true],
  ['identity, zstd;q=0.5', false],
  ['*;q=0.8, zstd;q=0.5', false],
  ['identity;q=0.2, *;q=0.8, zstd;q=0.5', true],
  ['gzip', false],
  ['zstandard', false],
  ['xzstd', false],
  ['zstd;q=2', false],
  ['zstd;q=0.0001', false],
  ['zstd;q=', false],
  ['zstd;level=3', false],
  [',,zstd,', true],
  [`${'gzip,'.repeat(2000)}zstd`, true],
]
for (const [header, zstd] of ACCEPTED) {
  test(`Accept-Encoding: ${header?.slice(0, 40)} ${zstd ? 'asks for' : 'does not ask for'} zstd`, () => {
    assert.equal(prefersCoding(header, 'zstd'), zstd)
  })
}

const DOWNLINKS: [header: string | undefined, bytesPerS: number | undefined][] = [
  [undefined, undefined],
  ['', undefined],
  ['100', 12_500_000],
  ['0.008', 1_000],
  ['0', undefined],
  ['-1', undefined],
  ['1e3', undefined],
  ['1.', undefined],
  ['1.2345', undefined],
  ['9999999999999', undefined],
  ['10, 20', undefined],
]
for (const [header, bytesPerS] of DOWNLINKS) {
  test(`Downlink: ${header} is ${bytesPerS} bytes a second`, () => {
    assert.equal(parseDownlink(header), bytesPerS)
  })
}
