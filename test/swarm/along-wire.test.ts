import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { ALONG_EXPECTED_WAIT_MS, ALONG_WAIT_MS } from '../../src/limits.ts'
import { formatAlong, parseAlong } from '../../src/swarm/along-wire.ts'

describe('the header of who reads along', () => {
  const cases: [header: string | undefined, parsed: ReturnType<typeof parseAlong>][] = [
    ['begun=300, expected=200', { begunMs: 300, expectedMs: 200 }],
    ['begun=0, expected=0', { begunMs: 0, expectedMs: 0 }],
    ['begun=12, expected=7, as=12D3KooWx', { begunMs: 12, expectedMs: 7, as: 'narswarm:12D3KooWx' }],
    ['begun=12,expected=7', undefined],
    ['begun=12, expected=7, as=', undefined],
    ['begun=12, expected=7, as=a b', undefined],
    ['begun=999999, expected=999999', { begunMs: ALONG_WAIT_MS, expectedMs: ALONG_EXPECTED_WAIT_MS }],
    ['begun=9999999, expected=0', undefined],
    ['begun=-1, expected=0', undefined],
    ['begun=0.3, expected=0', undefined],
    ['begun=300', undefined],
    ['expected=1, begun=1', undefined],
    ['', undefined],
    ['1', undefined],
    [undefined, undefined],
  ]
  for (const [header, parsed] of cases) {
    it(`${header}`, () => assert.deepEqual(parseAlong(header), parsed))
  }
  it('is read as it was written', () => {
    for (const as of [{}, { as: 'narswarm:12D3KooWx' }]) {
      const along = { begunMs: ALONG_WAIT_MS, expectedMs: 0, ...as }
      assert.deepEqual(parseAlong(formatAlong(along)), along)
    }
  })
})
