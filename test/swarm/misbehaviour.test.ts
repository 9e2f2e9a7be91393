import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Worker } from 'node:worker_threads'
import { multiaddr } from '@multiformats/multiaddr'
import { blockMatches, rawCid, sha256 } from '../../src/dag/cid.ts'
import { SourceFaultError, SourceLieError, SourceMissError } from '../../src/source.ts'
import { encodeBlockHead } from '../../src/swarm/bitswap-message.ts'
import { createHeliaBlockstore, NO_BLOCKS } from '../../src/swarm/blockstore.ts'
import type { SwarmNode } from '../../src/swarm/node.ts'
import { startSwarmNode, SwarmStartError } from '../../src/swarm/node.ts'
import { recordingLog } from '../kit/log.ts'
import { tempDir } from '../kit/temp.ts'
import { ABSENT, askingNode, LOOPBACK, scriptedPeer, servingNode, startNode } from './peers.ts'

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
const ask = { cid: ABSENT, maxBytes: 1_048_576 }

test('a peer that is not there is a fault', async (t) => {
  const { node, address } = await servingNode(t, [])
  await node.stop()
  const source = asking.bitswapSource(address)
  await assert.rejects(source.fetch(ask, { signal }), SourceFaultError)
})

test('a peer that is not who its address says is a fault', async (t) => {
  const { address } = await servingNode(t, [])
  const stranger = await scriptedPeer(t, () => {})
  const forged = address.replace(/\/p2p\/.*/, `/p2p/${stranger.libp2p.peerId.toString()}`)
  const source = asking.bitswapSource(forged)
  await assert.rejects(source.fetch(ask, { signal }), SourceFaultError)
})

test('an address without a peer id is refused', () => {
  for (const address of ['/ip4/127.0.0.1/tcp/1', 'no multiaddr', '']) {
    assert.throws(() => asking.bitswapSource(address), RangeError)
  }
})

test('an abort ends the call at once and takes the want back from a silent peer', async (t) => {
  const messages: Buffer[] = []
  const { promise: asked, resolve: onAsked } = Promise.withResolvers<void>()
  const { promise: cancelled, resolve: onCancelled } = Promise.withResolvers<void>()
  const peer = await scriptedPeer(t, (message) => {
    messages.push(Buffer.from(message))
    if (messages.length === 1) onAsked()
    else onCancelled()
  })
  const source = asking.bitswapSource(peer.address)
  const controller = new AbortController()
  const call = source.fetch(ask, { signal: controller.signal })
  await asked
  const reason = new Error('the reader left')
  controller.abort(reason)
  await assert.rejects(call, reason)
  await cancelled
  for (const message of messages) assert.ok(message.includes(Buffer.from(ABSENT.bytes)))
  // Field 3 of the entry, `cancel`, true: in the second message only.
  assert.deepEqual(
    messages.map((message) => message.includes(Buffer.of(0x18, 1))),
    [false, true],
  )
})

test('a peer that goes away while it is asked is a fault, and a source again when it is back', async (t) => {
  const bytes = randomBytes(5000)
  const { promise: asked, resolve: onAsked } = Promise.withResolvers<void>()
  const silent = await scriptedPeer(t, () => onAsked())
  const call = asking.bitswapSource(silent.address).fetch(ask, { signal })
  await Promise.all([asked.then(() => silent.libp2p.stop()), assert.rejects(call, SourceFaultError)])

  const first = await servingNode(t, [{ bytes, shared: true }])
  const source = asking.bitswapSource(first.address)
  const wanted = { cid: rawCid(sha256(bytes)), maxBytes: 1_048_576 }
  assert.ok(blockMatches(wanted.cid, await source.fetch(wanted, { signal })))
  await first.node.stop()
  await assert.rejects(source.fetch(wanted, { signal }), SourceFaultError)
  await servingNode(t, [], { dir: first.dir, listen: first.address.replace(/\/p2p\/.*/, '') })
  assert.ok(blockMatches(wanted.cid, await source.fetch(wanted, { signal })))
})

test('a block that nobody asked for, in answer to a want, is a lie', async (t) => {
  const wrong = randomBytes(100_000)
  const peer = await scriptedPeer(t, (_, self, from) => {
    void self.send(from, [encodeBlockHead(ABSENT, wrong.length), wrong])
  })
  const source = asking.bitswapSource(peer.address)
  await assert.rejects(source.fetch(ask, { signal }), SourceLieError)
})

test('a block above the size that was asked for is a lie', async (t) => {
  const block = randomBytes(200_000)
  const cid = rawCid(sha256(block))
  const peer = await scriptedPeer(t, (_, self, from) => {
    void self.send(from, [encodeBlockHead(cid, block.length), block])
  })
  const source = asking.bitswapSource(peer.address)
  await assert.rejects(source.fetch({ cid, maxBytes: 199_999 }, { signal }), SourceLieError)
})

test('a block that a peer pushes is kept by nobody', async (t) => {
  const pushed = randomBytes(50_000)
  const cid = rawCid(sha256(pushed))
  const { address } = await servingNode(t, [])
  const peer = await scriptedPeer(t, () => {})
  const { remotePeer } = await peer.libp2p.dial(multiaddr(address))
  await peer.send(remotePeer, [encodeBlockHead(cid, pushed.length), pushed])
  const source = asking.bitswapSource(address)
  await assert.rejects(source.fetch({ cid, maxBytes: 1_048_576 }, { signal }), SourceMissError)
})

test("Helia's own blockstore forgets what is put into it", async () => {
  const blockstore = createHeliaBlockstore(NO_BLOCKS)
  await blockstore.put(ABSENT, new Uint8Array(10))
  for await (const _ of blockstore.putMany([{ cid: ABSENT, bytes: new Uint8Array(10) }]));
  assert.equal(await blockstore.has(ABSENT), false)
  await assert.rejects(
    async () => {
      for await (const _ of blockstore.get(ABSENT));
    },
    { name: 'NotFoundError' },
  )
})

test('a crash of the thread fails what is under way, is told in one line, and is mended', async (t) => {
  const bytes = randomBytes(5000)
  const { address } = await servingNode(t, [{ bytes, shared: true }])
  const { promise: asked, resolve: onAsked } = Promise.withResolvers<void>()
  const silent = await scriptedPeer(t, () => onAsked())
  const log = recordingLog()
  const started = once(process, 'worker') as Promise<[Worker]>
  const node = await askingNode(t, log)
  const [worker] = await started
  const call = node.bitswapSource(silent.address).fetch(ask, { signal })
  await asked
  await Promise.all([worker.terminate(), assert.rejects(call, SourceFaultError)])
  assert.equal(log.lines.filter(({ level }) => level === 'error').length, 1)

  const source = node.bitswapSource(address)
  const wanted = { cid: rawCid(sha256(bytes)), maxBytes: 1_048_576 }
  for (;;) {
    try {
      assert.ok(blockMatches(wanted.cid, await source.fetch(wanted, { signal })))
      break
    } catch (error) {
      if (!(error instanceof SourceFaultError)) throw error
      await sleep(100)
    }
  }
})

test('a node that cannot listen does not start', async (t) => {
  const { address } = await servingNode(t, [])
  const dir = await tempDir(t)
  const taken = address.replace(/\/p2p\/.*/, '')
  assert.notEqual(taken, LOOPBACK)
  await assert.rejects(startNode(t, dir, { listen: [taken] }), SwarmStartError)
})

test('a damaged key file is an error that names it, and is left as it is', async (t) => {
  const dir = await tempDir(t)
  const keyFile = join(dir, 'libp2p', 'key')
  await mkdir(join(dir, 'libp2p'))
  await writeFile(keyFile, 'no key')
  await assert.rejects(startNode(t, dir, { listen: [] }), (error) => {
    assert.ok(error instanceof SwarmStartError)
    assert.ok(error.message.includes(keyFile))
    return true
  })
  assert.equal(await readFile(keyFile, 'utf8'), 'no key')
})
