import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import type { TestContext } from 'node:test'
import { test } from 'node:test'
import { multiaddr } from '@multiformats/multiaddr'
import type { CID } from 'multiformats/cid'
import { rawCid, sha256 } from '../../src/dag/cid.ts'
import { BITSWAP_PEER_WANTS_COUNT } from '../../src/limits.ts'
import { encodePresences, encodeWants } from '../../src/swarm/bitswap-message.ts'
import { ABSENT, scriptedPeer, servingNode } from './peers.ts'

test('messages are those of boxo, byte for byte', () => {
  const cid = Buffer.from(ABSENT.bytes)
  const entry = Buffer.concat([Buffer.of(0x0a, 36), cid, Buffer.of(0x10, 1, 0x28, 1)])
  const cancel = Buffer.concat([Buffer.of(0x0a, 36), cid, Buffer.of(0x10, 1, 0x18, 1)])
  assert.deepEqual(
    Buffer.from(
      encodeWants([
        { cid: ABSENT, cancel: false },
        { cid: ABSENT, cancel: true },
      ]),
    ),
    Buffer.concat([Buffer.of(90, 0x0a, 88, 0x0a, 42), entry, Buffer.of(0x0a, 42), cancel]),
  )
  assert.deepEqual(
    Buffer.from(encodePresences([{ cid: ABSENT.bytes, have: false }])),
    Buffer.concat([Buffer.of(44, 0x0a, 0, 0x22, 40, 0x0a, 36), cid, Buffer.of(0x10, 1)]),
  )
})

test('who asks whether we have a block is told so, and does not get it', async (t) => {
  const bytes = randomBytes(100_000)
  const { address } = await servingNode(t, [{ bytes, shared: true }])
  const cid = rawCid(sha256(bytes))
  const answer = await answerTo(t, address, wantHaves([ABSENT, cid]), 1)
  const presences = [
    { cid: ABSENT.bytes, have: false },
    { cid: cid.bytes, have: true },
  ]
  assert.deepEqual(answer, Buffer.from(encodePresences(presences)))
})

test('of a flood of wants as many are answered as a peer may have', async (t) => {
  const { address } = await servingNode(t, [])
  const cids = Array.from({ length: 20_000 }, () => rawCid(randomBytes(32)))
  const expected = encodePresences(
    cids.slice(0, BITSWAP_PEER_WANTS_COUNT).map((cid) => ({ cid: cid.bytes, have: false })),
  )
  const message = encodeWants(cids.map((cid) => ({ cid, cancel: false })))
  assert.deepEqual(await answerTo(t, address, message, expected.length), Buffer.from(expected))
})

/** The first message that comes back, of at least so many bytes. */
async function answerTo(
  t: TestContext,
  address: string,
  question: Uint8Array,
  bytes: number,
): Promise<Buffer> {
  const { promise, resolve } = Promise.withResolvers<Buffer>()
  let received = Buffer.alloc(0)
  const peer = await scriptedPeer(t, (chunk) => {
    received = Buffer.concat([received, chunk])
    if (received.length >= bytes) resolve(received)
  })
  const { remotePeer } = await peer.libp2p.dial(multiaddr(address))
  await peer.send(remotePeer, [question])
  return promise
}

/** Type 1, WantHave, in field 4, and an answer either way by field 5; our own encoder asks for blocks only. */
function wantHaves(cids: readonly CID[]): Uint8Array {
  const entries = cids.map((cid) =>
    Buffer.concat([Buffer.of(0x0a, 44, 0x0a, 36), cid.bytes, Buffer.of(0x10, 1, 0x20, 1, 0x28, 1)]),
  )
  const wantlist = Buffer.concat(entries)
  return Buffer.concat([Buffer.of(wantlist.length + 2, 0x0a, wantlist.length), wantlist])
}
