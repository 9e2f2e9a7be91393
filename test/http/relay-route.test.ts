import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Relay } from '../../src/operations/relay.ts'
import { hashPartOf } from '../../src/nix/store-path.ts'
import { HASH_PART, pattern, testNar, testPeer } from './kit.ts'

const ORIGIN = 'http://10.0.0.7:6278'
const OLDER = HASH_PART.replace('7', '8')
const nar = testNar(pattern(200_000))
const TARGET = `/relay/${HASH_PART}?older=${OLDER}`

function relayOf(answer: Awaited<ReturnType<Relay['ask']>>) {
  const asked: string[] = []
  const relay: Pick<Relay, 'ask'> = {
    ask(wanted, older) {
      asked.push(`${wanted} ${older}`)
      return Promise.resolve(answer)
    },
  }
  return { ...testPeer([], { relay }), asked }
}

test('what the relay has is a narinfo with its CID, for this asker alone', async () => {
  const { app, asked } = relayOf(nar.info)
  const response = await app.request(ORIGIN + TARGET)
  assert.equal(response.status, 200)
  assert.equal(response.headers.get('cache-control'), 'no-store')
  const text = await response.text()
  assert.ok(text.includes(`StorePath: /nix/store/${hashPartOf(nar.info.storePath)}-`))
  assert.ok(text.includes(`CID: ${nar.plan.root.toString()}\n`))
  assert.deepEqual(asked, [`${HASH_PART} ${OLDER}`])
})

test('what it does not have yet is 202, what it will not have 404', async () => {
  const later = await relayOf('later').app.request(ORIGIN + TARGET)
  assert.deepEqual([later.status, later.headers.get('retry-after')], [202, '1'])
  assert.equal((await relayOf('no').app.request(ORIGIN + TARGET)).status, 404)
})

for (const target of [
  `/relay/${HASH_PART}`,
  `/relay/${HASH_PART}?older=`,
  `/relay/${HASH_PART}?older=${OLDER}x`,
  `/relay/${HASH_PART}.narinfo?older=${OLDER}`,
  `/relay/${'e'.repeat(32)}?older=${OLDER}`,
  '/relay/',
  '/relay',
]) {
  test(`${target} is no question`, async () => {
    const { app, asked } = relayOf(nar.info)
    assert.equal((await app.request(ORIGIN + target)).status, 404)
    assert.deepEqual(asked, [])
  })
}

test('a browser has nothing fetched', async () => {
  const { app, asked } = relayOf(nar.info)
  const headers = { 'Sec-Fetch-Site': 'cross-site' }
  assert.equal((await app.request(ORIGIN + TARGET, { headers })).status, 403)
  assert.deepEqual(asked, [])
})

test('only a relay says that it is one, and has the route', async () => {
  const relay = relayOf('no').app
  const other = testPeer([nar]).app
  const saysSo = async (app: typeof relay): Promise<string | null> =>
    (await app.request(`${ORIGIN}/nix-cache-info`)).headers.get('narswarm-relay')
  assert.equal(await saysSo(relay), '1')
  assert.equal(await saysSo(other), null)
  assert.equal((await other.request(ORIGIN + TARGET)).status, 404)
})

test('trouble is told as such: who asks here knows what to make of it', async () => {
  const { app } = testPeer([], { relay: { ask: () => Promise.reject(new Error('broken')) } })
  assert.equal((await app.request(ORIGIN + TARGET)).status, 500)
})
