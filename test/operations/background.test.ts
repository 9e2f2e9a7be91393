import assert from 'node:assert/strict'
import { test } from 'node:test'
import { UPSTREAM_INFO_FRESH_MS, UPSTREAM_INFO_RETRY_MS } from '../../src/limits.ts'
import { keepChecking } from '../../src/operations/background.ts'
import { SourceRestingError } from '../../src/source.ts'
import { UpstreamUnfitError } from '../../src/upstream/errors.ts'
import type { Upstream } from '../../src/upstream/upstream.ts'
import { recordingLog } from '../kit/log.ts'

test('an upstream is asked what it is until it can be used, and told about once', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const log = recordingLog()
  const stop = new AbortController()
  const answers = [
    new UpstreamUnfitError('a login page'),
    new UpstreamUnfitError('a login page'),
    new SourceRestingError('upstream:x', 'left alone'),
    new Error('ECONNRESET'),
    undefined,
    undefined,
  ]
  let asked = 0
  const upstream = {
    id: 'upstream:x',
    cacheInfo: async () => {
      const answer = answers[asked++]
      if (answer !== undefined) throw answer
      return { priority: 40, wantMassQuery: true }
    },
  } as unknown as Upstream
  const turn = (): Promise<void> => new Promise(setImmediate)

  const checking = keepChecking(upstream, log, stop.signal)
  for (const expected of [1, 2, 3, 4, 5]) {
    await turn()
    assert.equal(asked, expected)
    t.mock.timers.tick(UPSTREAM_INFO_RETRY_MS)
  }
  await turn()
  assert.equal(asked, 5)
  t.mock.timers.tick(UPSTREAM_INFO_FRESH_MS)
  await turn()
  assert.equal(asked, 6)
  stop.abort()
  await checking
  assert.deepEqual(
    log.lines.map(({ message }) => message),
    ['a login page', 'ECONNRESET'],
  )
})
