/** A NAR whose narinfo Nix was given by an earlier process, out of the real table, resolver and transfers. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { COST, SourceFaultError } from '../../src/source.ts'
import { hashPartOf } from '../../src/nix/store-path.ts'
import { noise, planOf } from '../spool/kit.ts'
import { engine, narInfoOf, stream, tells, testPolicy } from '../substitute/kit.ts'
import { ORIGIN, pattern, testCache, testNar } from './kit.ts'

const bytes = noise(300_000)
const info = testPolicy.verify(narInfoOf(planOf(bytes)))
const NAR = `/nar/${info.narHash}.nar`
const NARINFO = `/${hashPartOf(info.storePath)}.narinfo`

async function restarted(t: TestContext) {
  const upstream = { gone: true }
  const refuse = (): void => {
    if (upstream.gone) throw new SourceFaultError('upstream:far', 'connection refused')
  }
  const source = tells('upstream:far', COST.upstream, async () => {
    refuse()
    return { info, stream: stream('upstream:far', bytes, refuse) }
  })
  const parts = await engine(t, { sources: [source] })
  const { app } = testCache(testNar(pattern(1)), { resolver: parts.resolver, transfers: parts.transfers })
  return { ...parts, app, upstream }
}

test('with its upstream gone it is a 404, and is there again with it', async (t) => {
  const { app, table, upstream } = await restarted(t)
  table.put(info)
  const narInfo = await app.request(ORIGIN + NARINFO)
  assert.equal(narInfo.status, 200)
  const gone = await app.request(ORIGIN + NAR)
  assert.equal(gone.status, 404)
  assert.equal(gone.headers.get('cache-control'), 'no-store')
  upstream.gone = false
  const back = await app.request(ORIGIN + NAR)
  assert.equal(back.status, 200)
  assert.ok(Buffer.from(await back.arrayBuffer()).equals(bytes))
})

test('on a disk that takes no row the narinfo is answered, and its NAR too', async (t) => {
  const { app, db, upstream } = await restarted(t)
  upstream.gone = false
  db.exec("CREATE TRIGGER full BEFORE INSERT ON narinfo BEGIN SELECT RAISE(FAIL, 'disk full'); END")
  assert.equal((await app.request(ORIGIN + NARINFO)).status, 200)
  const response = await app.request(ORIGIN + NAR)
  assert.equal(response.status, 200)
  assert.ok(Buffer.from(await response.arrayBuffer()).equals(bytes))
})

test('one that was never given is a 404 without a question to anyone', async (t) => {
  const { app, upstream, sources } = await restarted(t)
  upstream.gone = false
  assert.equal((await app.request(ORIGIN + NAR)).status, 404)
  assert.deepEqual(
    sources.map((source) => (source as { asked?: number }).asked),
    [0],
  )
})
