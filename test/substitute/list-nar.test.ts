import assert from 'node:assert/strict'
import { truncate } from 'node:fs/promises'
import { describe, it } from 'node:test'
import type { TestContext } from 'node:test'
import { NarFormatError } from '../../src/nix/nar-reader.ts'
import { COST } from '../../src/source.ts'
import { createNarLister } from '../../src/substitute/list-nar.ts'
import { narBytes } from '../nix/nar-tree.ts'
import { noise, options, pathIn, planOf, store } from '../spool/kit.ts'
import { engine, MIB, narInfoOf, stream, tells, testPolicy } from './kit.ts'

const contents = noise(2 * MIB)
const nar = narBytes({
  root: {
    type: 'directory',
    entries: ['big', 'bigger'].map((name) => ({
      name: Buffer.from(name),
      node: { type: 'regular', size: contents.length, executable: name === 'big', path: 'contents' },
    })),
  },
  contents: new Map([['contents', contents]]),
})
const info = testPolicy.verify(narInfoOf(planOf(nar)))
const [first, second] = [nar.indexOf(contents), nar.lastIndexOf(contents)]
const LISTING = `{"version":1,"root":{"type":"directory","entries":{"big":{"type":"regular","size":2097152,"executable":true,"narOffset":${first}},"bigger":{"type":"regular","size":2097152,"narOffset":${second}}}}}`

/** An engine with an upstream that has the NAR and is not to be asked. */
async function node(t: TestContext) {
  const upstream = stream('upstream:far', nar)
  const source = tells('upstream:far', COST.upstream, { info, stream: upstream })
  const parts = await engine(t, { sources: [source] })
  return {
    ...parts,
    lister: createNarLister(parts.transfers),
    asked: () => source.asked + upstream.opened.length,
  }
}

describe('list of a NAR', () => {
  it('is made from the spool', async (t) => {
    const { lister, spool, asked } = await node(t)
    await store(spool, nar)
    assert.equal(await lister.list(info, options), LISTING)
    assert.equal(asked(), 0)
  })
  it('is none when the NAR is not here, and nothing is fetched for it', async (t) => {
    const { lister, transfers, asked } = await node(t)
    assert.equal(await lister.list(info, options), undefined)
    assert.deepEqual([asked(), transfers.running()], [0, 0])
  })
  it('is none when the NAR is not as it was, though the index has it', async (t) => {
    const { lister, spool, dir, asked } = await node(t)
    await store(spool, nar)
    assert.ok(await lister.list(info, options))
    await truncate(pathIn(dir, info.narHash), 3 * MIB)
    assert.equal(await lister.list(info, options), undefined)
    assert.equal(asked(), 0)
  })
  it('fails for bytes that are signed and no NAR, and the next one is made', async (t) => {
    const { lister, spool } = await node(t)
    const rubbish = noise(1_000)
    await store(spool, rubbish)
    await store(spool, nar)
    const bad = lister.list(testPolicy.verify(narInfoOf(planOf(rubbish), 'rubbish')), options)
    const good = lister.list(info, options)
    await assert.rejects(bad, NarFormatError)
    assert.equal(await good, LISTING)
  })
  it('does not keep one waiting who has left', async (t) => {
    const { lister, spool } = await node(t)
    await store(spool, nar)
    const gone = new AbortController()
    const left = lister.list(info, { signal: gone.signal })
    const next = lister.list(info, options)
    gone.abort(new Error('client gone'))
    await assert.rejects(left, /client gone/)
    assert.equal(await next, LISTING)
  })
})
