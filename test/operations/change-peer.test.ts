import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { changePeer } from '../../src/operations/change-peer.ts'
import { RequestError } from '../../src/operations/operations.ts'
import { describePeers } from '../../src/operations/peers.ts'
import type { PeerChange } from '../../src/operations/peers.ts'
import { createBestEffort } from '../../src/state/best-effort.ts'
import { openDatabase } from '../../src/state/database.ts'
import { openNeighbourRows } from '../../src/swarm/neighbour-rows.ts'
import { createNeighbourTable } from '../../src/swarm/neighbour-table.ts'
import type { NeighbourTable } from '../../src/swarm/neighbour-table.ts'
import { recordingLog } from '../kit/log.ts'
import { tempDir } from '../kit/temp.ts'

const PEER = '12D3KooWGatU2NcRgWDLMqGxnvKYjAhFRMsvLTnuDiXZtUBKcpkM'
const CONFIGURED = 'http://10.0.0.9:6278/'
const AT = Date.UTC(2026, 0, 2, 3, 4, 5)

async function openTable(t: TestContext): Promise<NeighbourTable> {
  const db = openDatabase(join(await tempDir(t), 'state.sqlite'))
  t.after(() => db.close())
  const [clock, log] = [() => AT, recordingLog()]
  const deps = { rows: openNeighbourRows(db), bestEffort: createBestEffort({ log, clock }), clock, log }
  return createNeighbourTable(
    { ...deps, stopwatch: () => 0, ownId: () => undefined },
    { urls: [new URL(CONFIGURED)], addrs: [], useFound: true },
  )
}

const BAD: [change: PeerChange, message: RegExp][] = [
  [{ action: 'add', peer: 'ftp://10.0.0.2' }, /expected http:\/\/host:port, a multiaddr/],
  [{ action: 'add', peer: 'http://a:b@10.0.0.2' }, /without user name, password/],
  [{ action: 'add', peer: PEER }, /where is it/],
  [{ action: 'add', peer: '/ip4/10.0.0.2/tcp/6279' }, /expected a multiaddr such as/],
  [{ action: 'remove', peer: 'http://10.0.0.2' }, /no neighbour cache:http:\/\/10\.0\.0\.2\//],
  [{ action: 'remove', peer: CONFIGURED }, /named by the configuration/],
  [{ action: 'unban', peer: PEER }, /neither banned nor out/],
]
for (const [change, message] of BAD) {
  test(`${change.action} ${change.peer} is refused, and why is told`, async (t) => {
    const table = await openTable(t)
    assert.throws(
      () => changePeer(table, change),
      (error: Error) => {
        assert.ok(error instanceof RequestError)
        assert.match(error.message, message)
        return true
      },
    )
  })
}

test('what was added shows, is banned and unbanned, and is removed', async (t) => {
  const table = await openTable(t)
  const states = (): string[] =>
    describePeers(table)
      .peers.slice(1)
      .map(({ state }) => state)
  const peer = 'http://10.0.0.2:6278'
  assert.deepEqual(changePeer(table, { action: 'add', peer }), { id: 'cache:http://10.0.0.2:6278/' })
  assert.deepEqual(states(), ['unknown'])
  changePeer(table, { action: 'ban', peer, reason: 'loud' })
  assert.deepEqual(describePeers(table).peers[1], {
    id: 'cache:http://10.0.0.2:6278/',
    kind: 'cache',
    url: 'http://10.0.0.2:6278/',
    from: 'added',
    state: 'banned',
    reason: 'loud',
    since: '2026-01-02T03:04:05Z',
  })
  for (const action of ['add', 'remove'] as const) {
    assert.throws(() => changePeer(table, { action, peer }), /is banned: unban it first/)
  }
  changePeer(table, { action: 'unban', peer })
  assert.deepEqual(states(), ['unknown'])
  changePeer(table, { action: 'remove', peer })
  assert.deepEqual(states(), [])
})
