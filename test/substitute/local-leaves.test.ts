import assert from 'node:assert/strict'
import { open, rm } from 'node:fs/promises'
import { describe, it } from 'node:test'
import type { TestContext } from 'node:test'
import { rawCid, sha256 } from '../../src/dag/cid.ts'
import { hashPartOf } from '../../src/nix/store-path.ts'
import { COST, SourceFaultError } from '../../src/source.ts'
import type { BlockSource } from '../../src/source.ts'
import { collect, leafOf, noise, options, pathIn, planOf, store } from '../spool/kit.ts'
import { blocksOf, engine, flipped, MIB, narInfoOf, peer, stream, tells, testPolicy } from './kit.ts'

const LEAVES = 8
/** Of which leaves 2 and 5 have changed, and a part was put at its end. */
const older = noise(LEAVES * MIB, 'older')
const newer = Buffer.concat([older, noise(300, 'end')])
for (const leaf of [2, 5]) noise(MIB, `changed ${leaf}`).copy(newer, leaf * MIB)
const olderPlan = planOf(older)
const newerPlan = planOf(newer)
const info = narInfoOf(newerPlan, 'newer-1.0')
const verified = testPolicy.verify(info)
const blocks = blocksOf(newer)
const cidOf = (leaf: number): string => rawCid(sha256(leafOf(newer, leaf))).toString()
const SAME = (LEAVES - 2) * MIB

/** One that has the older NAR in its spool. */
async function upgrading(
  t: TestContext,
  {
    peers,
    shared = false,
    shareable = false,
  }: { peers: BlockSource[]; shared?: boolean; shareable?: boolean },
) {
  const upstream = stream('upstream:a', newer)
  const one = await engine(t, {
    sources: [
      tells('feed:f', COST.local, { info, cid: newerPlan.root }),
      tells('upstream:a', COST.upstream, { info, stream: upstream }),
    ],
    peers,
    shareable,
  })
  await store(one.spool, older)
  one.index.put(olderPlan, { shared, inSpool: true })
  assert.ok(await one.resolver.byHashPart(hashPartOf(info.storePath), options))
  return {
    ...one,
    upstream,
    olderFile: pathIn(one.dir, olderPlan.narHash),
    async read() {
      const range = { start: 0, end: newer.length }
      const transfer = await one.transfers.open(verified, range, options)
      assert.ok((await collect(transfer.read(range, options))).equals(newer))
      await transfer.done
    },
    bytesOf: (id: string) => one.scores.all().get(id)?.bytes ?? 0,
  }
}

describe('a NAR of which some leaves lie here in another one', () => {
  it('takes from peers only those that do not', async (t) => {
    const other = peer('peer', blocks)
    const one = await upgrading(t, { peers: [other] })
    await one.read()
    assert.deepEqual(
      other.asked.toSorted(),
      [newerPlan.root.toString(), ...[2, 5, LEAVES].map(cidOf)].toSorted(),
    )
    assert.deepEqual(one.upstream.opened, [])
    assert.equal(one.bytesOf('local'), SAME)
    // Of what was read here nothing was on the wire, and no peer's pace is told by it.
    assert.equal(one.scores.all().get('local')?.wireBytes, undefined)
    assert.equal(one.scores.pace('blocks'), undefined)
  })

  it('takes from a peer what was changed on disk, and blames nobody', async (t) => {
    const other = peer('peer', blocks)
    const one = await upgrading(t, { peers: [other] })
    const file = await open(one.olderFile, 'r+')
    await file.write(Buffer.from([1 ^ (older[3 * MIB] ?? 0)]), 0, 1, 3 * MIB)
    await file.close()
    await one.read()
    assert.ok(other.asked.includes(cidOf(3)))
    assert.equal(one.bytesOf('local'), SAME - MIB)
    for (const [id, score] of one.scores.all()) assert.deepEqual([id, score.lies, score.faults], [id, 0, 0])
  })

  it('takes all from a peer when the older one is gone', async (t) => {
    const other = peer('peer', blocks)
    const one = await upgrading(t, { peers: [other] })
    await rm(one.olderFile)
    await one.read()
    assert.equal(one.bytesOf('local'), 0)
    for (const [id, score] of one.scores.all()) assert.deepEqual([id, score.lies, score.faults], [id, 0, 0])
  })

  it('comes from upstream at once where there is no peer for the rest', async (t) => {
    const one = await upgrading(t, { peers: [] })
    await one.read()
    assert.deepEqual(one.upstream.opened, [0])
    assert.equal(one.bytesOf('local'), 0)
  })

  it('comes from upstream where all peers are down, from the byte that nobody has', async (t) => {
    const down = peer('peer', blocks, (_, { cid }) => {
      if (cid.equals(newerPlan.root)) return blocks.get(cid.toString()) ?? assert.fail()
      throw new SourceFaultError('peer', 'connection reset')
    })
    const one = await upgrading(t, { peers: [down] })
    await one.read()
    assert.deepEqual(one.upstream.opened, [2 * MIB])
  })

  it('takes from another peer what one gave wrong, which alone is out', async (t) => {
    const bad = peer('bad', blocks, (block, { cid }) => (cid.equals(newerPlan.root) ? block : flipped(block)))
    const one = await upgrading(t, { peers: [bad, peer('good', blocks)] })
    await one.read()
    assert.equal(one.scores.all().get('local')?.lies, 0)
    assert.equal(one.scores.all().get('bad')?.lies, 1)
  })

  it('that others may have takes only such leaves, for who reads along has them before they are proved', async (t) => {
    const [near, far] = [peer('near', blocks), peer('far', blocks)]
    const kept = await upgrading(t, { peers: [near], shareable: true })
    await kept.read()
    assert.equal(kept.bytesOf('local'), 0)
    assert.equal(near.asked.length, 1 + LEAVES + 1)
    const given = await upgrading(t, { peers: [far], shareable: true, shared: true })
    await given.read()
    assert.equal(given.bytesOf('local'), SAME)
  })
})
