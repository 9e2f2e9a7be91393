import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { chooseRange } from '../../src/http/range.ts'

const SIZE = 1000
const full = { kind: 'full' }
const unsatisfiable = { kind: 'unsatisfiable' }
const partial = (start: number, end: number) => ({ kind: 'partial', range: { start, end } })

/** Security 3 C12. */
const CASES: [header: string | undefined, expected: object][] = [
  [undefined, full],
  ['', full],
  ['bytes=0-0', partial(0, 1)],
  ['bytes=0-', partial(0, 1000)],
  ['bytes=999-', partial(999, 1000)],
  ['bytes=1000-', unsatisfiable],
  ['bytes=5000-6000', unsatisfiable],
  ['bytes=10-5000', partial(10, 1000)],
  ['bytes=-1', partial(999, 1000)],
  ['bytes=-5000', partial(0, 1000)],
  ['bytes=-0', unsatisfiable],
  ['bytes=-', full],
  ['bytes=9-3', full],
  ['bytes=0-0,5-6', full],
  [`bytes=${'0-999,'.repeat(1000)}0-999`, full],
  ['foo=0-1', full],
  ['Bytes=0-1', partial(0, 2)],
  ['bytes = 0-1', full],
  ['bytes=a-b', full],
  ['bytes=0x1-2', full],
  ['bytes=1e2-', full],
  ['bytes=+1-2', full],
  ['bytes=--1', full],
  ['bytes=99999999999999999999999-', unsatisfiable],
  ['bytes=0-99999999999999999999999', partial(0, 1000)],
  [`bytes=0-${'9'.repeat(400)}`, partial(0, 1000)],
]

for (const [header, expected] of CASES) {
  test(`Range of ${header === undefined ? 'nobody' : JSON.stringify(header.slice(0, 40))}`, () => {
    assert.deepEqual(chooseRange(header, SIZE), expected)
  })
}

test('a range of an empty body is never satisfiable', () => {
  for (const header of ['bytes=0-', 'bytes=0-0', 'bytes=-1'])
    assert.deepEqual(chooseRange(header, 0), unsatisfiable)
})

test('whatever the header says, the range lies within the body and is not empty', () => {
  fc.assert(
    fc.property(
      fc.oneof(fc.string(), fc.stringMatching(/^bytes=[0-9]{0,4}-[0-9]{0,4}$/)),
      fc.integer({ min: 0, max: 9999 }),
      (header, size) => {
        const choice = chooseRange(header, size)
        if (choice.kind !== 'partial') return
        const { start, end } = choice.range
        assert.ok(0 <= start && start < end && end <= size, `${start}-${end} of ${size}`)
      },
    ),
  )
})
