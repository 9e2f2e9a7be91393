import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { nodeCid, rawCid, sha256 } from '../../src/dag/cid.ts'
import { LEAF_BYTES } from '../../src/dag/profile.ts'
import { DagError, rootLink } from '../../src/dag/reader.ts'
import type { DagLink } from '../../src/dag/reader.ts'
import { createTreeBuilder } from '../../src/dag/tree.ts'
import { SourceFaultError } from '../../src/source.ts'
import { leafLinks } from '../../src/substitute/dag-walk.ts'
import { BlockUnavailableError } from '../../src/substitute/errors.ts'
import { fetchChildren } from '../../src/substitute/fetch-children.ts'
import { fetchLeaves } from '../../src/substitute/leaf-scheduler.ts'
import { createRoster } from '../../src/substitute/roster.ts'
import { createScores } from '../../src/substitute/scores.ts'
import { recordingLog } from '../kit/log.ts'
import { options } from '../spool/kit.ts'
import { flipped, peer, silence, timersAlive, until } from './kit.ts'
import type { Peer } from './kit.ts'

const ZEROS = new Uint8Array(LEAF_BYTES)
const ZERO_DIGEST = sha256(ZEROS)

/** The DAG of a NAR of so many leaves of zeros: a few blocks, whatever its size. */
function zeros(leafTotal: number) {
  const tree = createTreeBuilder()
  for (let i = 0; i < leafTotal; i++) tree.addLeaf(ZERO_DIGEST, LEAF_BYTES)
  const { root, nodes } = tree.finish()
  const blocks = new Map<string, Uint8Array>(nodes.map((node) => [node.cid.toString(), node.bytes]))
  blocks.set(rawCid(ZERO_DIGEST).toString(), ZEROS)
  return { root, narSize: leafTotal * LEAF_BYTES, blocks, nodes }
}

function rosterOf(...peers: Peer[]) {
  const scores = createScores({ clock: Date.now })
  const log = recordingLog()
  return { roster: createRoster(peers, { scores, clock: Date.now, log }), scores, log }
}

const small = zeros(3)
const link: DagLink = rootLink(small.root, small.narSize)

describe('interior nodes', () => {
  it('are asked of the next source when one gives other bytes, which is then out', async () => {
    const liar = peer('liar', small.blocks, flipped)
    const { roster, scores } = rosterOf(liar, peer('good', small.blocks))
    assert.equal((await fetchChildren(link, roster, options)).length, 3)
    assert.equal(scores.usable('liar'), false)
  })
  it('are asked of the next source when one is silent', { timeout: 10_000 }, async () => {
    const before = timersAlive()
    const silent = peer('silent', small.blocks, (_, { signal }) => silence(signal))
    const { roster, scores } = rosterOf(silent, peer('good', small.blocks))
    assert.equal((await fetchChildren(link, roster, options)).length, 3)
    await until(() => silent.underWay() === 0 && !scores.usable('silent'))
    assert.equal(timersAlive(), before)
  })
  it('are had from a source that fails twice and then answers', async () => {
    const shaky = peer('shaky', small.blocks, (block, { count }) => {
      if (count < 3) throw new SourceFaultError('shaky', 'reset')
      return block
    })
    assert.equal((await fetchChildren(link, rosterOf(shaky).roster, options)).length, 3)
  })
  it('are unavailable when all miss or fail', async () => {
    const dead = peer('dead', small.blocks, () => Promise.reject(new SourceFaultError('dead', 'refused')))
    const { roster } = rosterOf(dead, peer('empty', new Map()))
    await assert.rejects(fetchChildren(link, roster, options), (error) => {
      assert.ok(error instanceof BlockUnavailableError)
      assert.match(error.message, /dead: refused/)
      return true
    })
  })
  it('are not waited for after an abort, even of a source that ignores it', async () => {
    const deaf = { id: 'deaf', cost: 20 as const, fetch: () => new Promise<never>(() => {}) }
    const { roster } = {
      roster: createRoster([deaf], {
        scores: createScores({ clock: Date.now }),
        clock: Date.now,
        log: recordingLog(),
      }),
    }
    const abort = new AbortController()
    const children = fetchChildren(link, roster, { signal: abort.signal })
    abort.abort(new Error('client gone'))
    await assert.rejects(children, /client gone/)
  })
  it('survive a source that throws before it promises anything', async () => {
    const rude = {
      id: 'rude',
      cost: 10 as const,
      fetch(): Promise<Uint8Array> {
        throw new TypeError('x is undefined')
      },
    }
    const scores = createScores({ clock: Date.now })
    const roster = createRoster([rude, peer('good', small.blocks)], {
      scores,
      clock: Date.now,
      log: recordingLog(),
    })
    assert.equal((await fetchChildren(link, roster, options)).length, 3)
  })
})

describe('a hostile root accuses nobody but itself', () => {
  const cases: Record<string, { root: DagLink['cid']; blocks: Map<string, Uint8Array>; narSize: number }> = {
    'the DAG of a NAR of another size': { ...zeros(3), narSize: 2 * LEAF_BYTES },
    'a leaf named as a node': { ...small, root: nodeCid(ZERO_DIGEST) },
    'a block that is no node at all': (() => {
      const bytes = Buffer.from('<html>welcome</html>')
      const root = nodeCid(sha256(bytes))
      return { root, narSize: 3 * LEAF_BYTES, blocks: new Map([[root.toString(), bytes]]) }
    })(),
  }
  for (const [title, { root, blocks, narSize }] of Object.entries(cases)) {
    it(title, async () => {
      // By their digests: a gateway does not look at the codec either.
      const byDigest = new Map([...blocks, [root.toString(), blocks.get(root.toString()) ?? ZEROS]])
      const honest = peer('honest', byDigest)
      const { roster, scores } = rosterOf(honest)
      await assert.rejects(fetchChildren(rootLink(root, narSize), roster, options), DagError)
      assert.equal(scores.usable('honest'), true)
      assert.equal(honest.asked.length, 1)
    })
  }
  it('a root of the wrong codec costs no request', () => {
    assert.throws(() => rootLink(small.root, 1_000), DagError)
    assert.throws(() => rootLink(rawCid(ZERO_DIGEST), 3 * LEAF_BYTES), DagError)
  })
})

describe('a DAG of three levels', () => {
  const large = zeros(1025)
  const walk = (from: number, ...peers: Peer[]) => {
    const { roster } = rosterOf(...peers)
    const nar = { root: large.root, narSize: large.narSize, from }
    return {
      roster,
      links: leafLinks(nar, (node, inner) => fetchChildren(node, roster, inner), options),
    }
  }

  it('is walked in order, one node at a time', async () => {
    const one = peer('a', large.blocks)
    const links = await Array.fromAsync(walk(0, one).links)
    assert.equal(links.length, 1025)
    assert.ok(links.every((leaf, i) => leaf.offset === i * LEAF_BYTES && leaf.size === LEAF_BYTES))
    assert.equal(one.asked.length, 3)
  })
  it('is walked from the middle without the nodes before it', async () => {
    const one = peer('a', large.blocks)
    const links = await Array.fromAsync(walk(1024 * LEAF_BYTES + 5, one).links)
    assert.deepEqual(
      links.map(({ offset }) => offset),
      [1024 * LEAF_BYTES],
    )
    assert.equal(one.asked.length, 2)
  })
  it('of zeros is four blocks for whoever fetches it', async () => {
    const one = peer('a', large.blocks)
    const { roster, links } = walk(0, one)
    let at = 0
    for await (const leaf of fetchLeaves(links, roster, options)) {
      assert.equal(leaf.link.offset, at)
      at += leaf.bytes.length
    }
    assert.equal(at, large.narSize)
    assert.equal(one.asked.length, 4)
  })
  it('breaks off at a node that is not of this NAR', async () => {
    const blocks = new Map(large.blocks)
    // The second node of the first level is asked for by its CID, and nobody has it.
    const second = large.nodes.find(
      ({ bytes }) => bytes.length < 500 && !large.root.equals(nodeCid(sha256(bytes))),
    )
    assert.ok(second)
    blocks.delete(second.cid.toString())
    const got: DagLink[] = []
    await assert.rejects(async () => {
      for await (const leaf of walk(0, peer('a', blocks)).links) got.push(leaf)
    }, BlockUnavailableError)
    assert.equal(got.length, 1024)
  })
})
