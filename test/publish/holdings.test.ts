import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import type { TestContext } from 'node:test'
import { describe, it } from 'node:test'
import { hashPartOf } from '../../src/nix/store-path.ts'
import { createHoldings } from '../../src/publish/holdings.ts'
import { BlockUnavailableError } from '../../src/substitute/errors.ts'
import { sampleKey } from '../nix/sample.ts'
import { collect, noise, options, pathIn, store } from '../spool/kit.ts'
import { engine, flipped, narInfoOf, testPolicy } from '../substitute/kit.ts'
import { sharePolicy } from './kit.ts'

const nar = noise(50_000)

/** A NAR in spool and table, shared or not, and what others may have of it under the given share key. */
async function holding(t: TestContext, shared: boolean, policy = sharePolicy()) {
  const node = await engine(t, {})
  const plan = await store(node.spool, nar)
  const info = narInfoOf(plan)
  node.index.put(plan, { shared, inSpool: true })
  node.table.put(testPolicy.verify(info))
  const { table, index, blocks } = node
  return { ...node, info, root: plan.root, holdings: createHoldings({ policy, table, index, blocks }) }
}

describe('holdings', () => {
  it('give narinfo and bytes of what is shared', async (t) => {
    const { holdings, info, root } = await holding(t, true)
    assert.equal(holdings.narInfo(hashPartOf(info.storePath))?.narHash, info.narHash)
    const range = { start: 17, end: 40_000 }
    const opened = holdings.openNar(info.narHash)
    assert.ok(opened)
    assert.equal(opened.narSize, nar.length)
    assert.equal(holdings.narSizeOf(root), nar.length)
    assert.deepEqual(await collect(opened.read(range, options)), nar.subarray(17, 40_000))
  })
  it('know nothing of what is here and not shared', async (t) => {
    const { holdings, info, root } = await holding(t, false)
    assert.equal(holdings.narInfo(hashPartOf(info.storePath)), undefined)
    assert.equal(holdings.openNar(info.narHash), undefined)
    assert.equal(holdings.narSizeOf(root), undefined)
  })
  it('tell no narinfo without a signature by a share key', async (t) => {
    const { holdings, info } = await holding(t, true, sharePolicy([], sampleKey('other-1', 5)))
    assert.equal(holdings.narInfo(hashPartOf(info.storePath)), undefined)
  })
  it('tell no narinfo of a denied path, though another path has its bytes', async (t) => {
    const { holdings, table, info } = await holding(t, true, sharePolicy(['package-*']))
    const other = testPolicy.verify(narInfoOf(info, 'other-1'))
    table.put(other)
    assert.equal(holdings.narInfo(hashPartOf(info.storePath)), undefined)
    assert.equal(holdings.narInfo(hashPartOf(other.storePath))?.narHash, info.narHash)
  })
  it('break off rather than give a rotten leaf', async (t) => {
    const { holdings, info, dir } = await holding(t, true)
    await writeFile(pathIn(dir, info.narHash), flipped(nar))
    const opened = holdings.openNar(info.narHash)
    assert.ok(opened)
    await assert.rejects(collect(opened.read({ start: 0, end: nar.length }, options)), BlockUnavailableError)
  })
})
