import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { withBitswap } from '@helia/bitswap'
import { withLibp2pLight } from '@helia/libp2p'
import { identify } from '@libp2p/identify'
import { noise } from '@libp2p/noise'
import { tcp } from '@libp2p/tcp'
import { tls } from '@libp2p/tls'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createHeliaLight } from 'helia'
import type { CID } from 'multiformats/cid'
import { blockMatches, rawCid, sha256 } from '../../src/dag/cid.ts'
import type { NarPlan } from '../../src/dag/planner.ts'
import { BLOCK_MAX_BYTES } from '../../src/limits.ts'
import type { BlockSource } from '../../src/source.ts'
import { SourceMissError } from '../../src/source.ts'
import type { SwarmNode } from '../../src/swarm/node.ts'
import { startSwarmNode } from '../../src/swarm/node.ts'
import { createSharedLine, createUpload } from '../../src/swarm/upload.ts'
import { recordingLog } from '../kit/log.ts'
import { tempDir } from '../kit/temp.ts'
import { ABSENT, LOOPBACK, servingNode, startNode } from './peers.ts'
import { findNar, flipByte } from './rot.ts'

const signal = new AbortController().signal
/** Asks, in all tests of this file. */
let asking: SwarmNode
let askingDir: string

before(async () => {
  askingDir = await mkdtemp(join(tmpdir(), 'narswarm-test-'))
  asking = await startSwarmNode({ keyFile: join(askingDir, 'key'), listen: [] }, { log: recordingLog() })
})
after(async () => {
  await asking.stop()
  await rm(askingDir, { recursive: true })
})

test('all blocks of a NAR come from the peer that shares it, root and leaves, a window at a time', async (t) => {
  const bytes = randomBytes(20 * 1_048_576 + 77)
  const { address, plans } = await servingNode(t, [{ bytes, shared: true }])
  const source = asking.bitswapSource(address)
  const plan = only(plans)
  const root = await fetchBlock(source, plan.root)
  assert.ok(blockMatches(plan.root, root))
  const leaves = await Promise.all(leafCids(plan).map((cid) => fetchBlock(source, cid)))
  const hash = createHash('sha256')
  for (const leaf of leaves) hash.update(leaf)
  assert.equal(hash.digest('hex'), createHash('sha256').update(bytes).digest('hex'))
})

test('the same block asked for twice at once comes to both', async (t) => {
  const { address, plans } = await servingNode(t, [{ bytes: randomBytes(1000), shared: true }])
  const source = asking.bitswapSource(address)
  const { root } = only(plans)
  const [first, second] = await Promise.all([fetchBlock(source, root), fetchBlock(source, root)])
  assert.ok(blockMatches(root, first))
  assert.ok(blockMatches(root, second))
})

test('blocks over bitswap take their place on the line of all uploads', async (t) => {
  const line = createSharedLine(1_000_000_000)
  const { address, plans } = await servingNode(t, [{ bytes: randomBytes(3_000_000), shared: true }], { line })
  const plan = only(plans)
  const source = asking.bitswapSource(address)
  let bytes = 0
  for (const cid of [plan.root, ...leafCids(plan)]) bytes += (await fetchBlock(source, cid)).length
  assert.ok(bytes > 3_000_000)
  assert.equal(createUpload(line).total(), bytes)
  assert.notEqual(new BigInt64Array(line.cells)[0], 0n)
})

test('a NAR that is not shared is a miss, beside one that is', async (t) => {
  const { address, plans } = await servingNode(t, [
    { bytes: randomBytes(3_000_000), shared: false },
    { bytes: randomBytes(5000), shared: true },
  ])
  const source = asking.bitswapSource(address)
  const [hidden, open] = plans
  assert.ok(hidden !== undefined && open !== undefined)
  for (const cid of [hidden.root, ...leafCids(hidden)]) {
    await assert.rejects(fetchBlock(source, cid), SourceMissError)
  }
  assert.ok(blockMatches(open.root, await fetchBlock(source, open.root)))
})

test('a node that serves nothing says so of every block', async (t) => {
  const bytes = randomBytes(5000)
  const { dir } = await servingNode(t, [{ bytes, shared: true }])
  const mute = await startNode(t, join(dir, 'mute'), { listen: [LOOPBACK] })
  const source = asking.bitswapSource(mute.addrs()[0] ?? '')
  await assert.rejects(fetchBlock(source, rawCid(sha256(bytes))), SourceMissError)
})

test('a miss does not end the peer as a source', async (t) => {
  const { address, plans } = await servingNode(t, [{ bytes: randomBytes(5000), shared: true }])
  const source = asking.bitswapSource(address)
  const { root } = only(plans)
  for (let round = 0; round < 3; round++) {
    await assert.rejects(fetchBlock(source, ABSENT), SourceMissError)
    assert.ok(blockMatches(root, await fetchBlock(source, root)))
  }
})

test('bytes that rotted on disk are a miss, not a wrong block', async (t) => {
  const bytes = randomBytes(2_500_000)
  const { address, plans, dir } = await servingNode(t, [{ bytes, shared: true }])
  const plan = only(plans)
  await flipByte(await findNar(join(dir, 'spool'), plan.narSize), 1_500_000)
  const source = asking.bitswapSource(address)
  const [whole, rotten] = leafCids(plan)
  assert.ok(whole !== undefined && rotten !== undefined)
  assert.ok(blockMatches(whole, await fetchBlock(source, whole)))
  await assert.rejects(fetchBlock(source, rotten), SourceMissError)
})

test('the peer id survives a restart, its key is ours alone', async (t) => {
  const dir = await tempDir(t)
  const first = await startNode(t, dir, { listen: [] })
  await first.stop()
  const second = await startNode(t, dir, { listen: [] })
  assert.equal(second.peerId, first.peerId)
  assert.equal((await stat(join(dir, 'libp2p', 'key'))).mode & 0o777, 0o600)
})

for (const encrypter of [tls, noise]) {
  test(`a plain Helia gets a NAR from us and we get one from it, over ${encrypter.name}`, async (t) => {
    const { address, plans } = await servingNode(t, [{ bytes: randomBytes(6_000_000), shared: true }])
    const plan = only(plans)
    const helia = withBitswap(
      withLibp2pLight(createHeliaLight(), {
        addresses: { listen: [LOOPBACK] },
        transports: [tcp()],
        connectionEncrypters: [encrypter()],
        streamMuxers: [yamux()],
        services: { identify: identify() },
      }),
    )
    await helia.start()
    t.after(() => helia.stop())

    const { remotePeer } = await helia.libp2p.dial(multiaddr(address))
    const session = helia.blockstore.createSession(plan.root, {
      providers: [remotePeer.toCID()],
      minProviders: 1,
      maxProviders: 1,
    })
    for (const cid of [plan.root, ...leafCids(plan)]) {
      const parts: Uint8Array[] = []
      for await (const part of session.get(cid, { signal })) parts.push(part)
      assert.ok(blockMatches(cid, Buffer.concat(parts)))
    }

    // Its defaults put several blocks into one message.
    const theirs = Array.from({ length: 6 }, () => randomBytes(1_048_576))
    for (const block of theirs) await helia.blockstore.put(rawCid(sha256(block)), block)
    const source = asking.bitswapSource(helia.libp2p.getMultiaddrs().map(String)[0] ?? '')
    const blocks = await Promise.all(theirs.map((block) => fetchBlock(source, rawCid(sha256(block)))))
    for (const [i, block] of blocks.entries()) assert.deepEqual(Buffer.from(block), theirs[i])
  })
}

function fetchBlock(source: BlockSource, cid: CID): Promise<Uint8Array> {
  return source.fetch({ cid, maxBytes: BLOCK_MAX_BYTES }, { signal })
}

function leafCids(plan: NarPlan): CID[] {
  return Array.from({ length: plan.leaves.length / 32 }, (_, i) =>
    rawCid(plan.leaves.subarray(i * 32, i * 32 + 32)),
  )
}

function only(plans: readonly NarPlan[]): NarPlan {
  const [plan] = plans
  if (plan === undefined) throw new Error('no plan')
  return plan
}
