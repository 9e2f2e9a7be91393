import assert from 'node:assert/strict'
import { test } from 'node:test'
import { notReady } from '../../src/operations/readiness.ts'
import type { ReadinessParts } from '../../src/operations/readiness.ts'

const well: ReadinessParts = {
  trustedKeys: 1,
  threshold: 1,
  sources: 1,
  stateDir: '/state',
  checkWritable: (dir) => assert.equal(dir, '/state'),
}

test('ready with a key, a source and a state directory', () => {
  assert.equal(notReady(well), undefined)
})

const PROBLEMS: [Partial<ReadinessParts>, RegExp][] = [
  [{ trustedKeys: 0 }, /1 trusted keys must have signed a path, and 0 are configured/],
  [{ trustedKeys: 2, threshold: 3 }, /^3 trusted keys/],
  [{ sources: 0 }, /no upstream, no feed and no local store/],
  [
    {
      checkWritable: () => {
        throw new Error('EROFS: read-only file system, access /state')
      },
    },
    /^the state directory cannot be written to$/,
  ],
]
for (const [parts, reason] of PROBLEMS) {
  test(`not ready: ${reason.source}`, () => assert.match(notReady({ ...well, ...parts }) ?? '', reason))
}
