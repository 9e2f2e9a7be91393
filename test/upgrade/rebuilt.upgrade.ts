import assert from 'node:assert/strict'
import { test } from 'node:test'
import { PASS, startBadServer } from '../e2e/kit/bad-server.ts'
import { openConsumer } from '../e2e/kit/consumer.ts'
import { startCountingProxy } from '../e2e/kit/counting-proxy.ts'
import type { ValidPath } from '../e2e/kit/nix-machine.ts'
import { openStage } from '../e2e/kit/stage.ts'
import { changedPaths, installEach, nameOfPath } from './kit/installs.ts'
import { BUILD_IDS, generationName, rebuiltPrograms } from './kit/rebuilds.ts'
import { openMachineWith, orSkip, topOf } from './kit/generations.ts'
import { openNeighbours } from './kit/neighbours.ts'
import { skipWithout } from './kit/skip.ts'
import { printTable, sumOf, withZstd } from './kit/table.ts'

/** Seven packages, four times each, when nothing is kept of an earlier run. */
const TEST_MS = 3600_000
/** Of the zstd size of what was built anew, zlib itself aside: what that takes is what we changed in it. */
const MOST_WITH_BUILD_IDS = 0.01
const skip = skipWithout(['apt-get', 'dpkg-source', 'gcc', 'make', 'mawk'])

test('programs built anew after zlib changed', { skip, timeout: TEST_MS }, async (t) => {
  const stage = await openStage(t, undefined, TEST_MS)
  const built = await orSkip(t, rebuiltPrograms(stage))
  if (built === undefined) return
  const { publicKey, tops, cache } = built
  const all = BUILD_IDS.flatMap((id) => [generationName(id, 'before'), generationName(id, 'after')])
  const everything = await openMachineWith(stage, 'everything', built, all)
  const [before, after] = [generationName('none', 'before'), generationName('none', 'after')]
  const changed = changedPaths(everything, topOf(tops, before), topOf(tops, after))
  const dependents = changed.filter((path) => !isZlib(path))
  assert.ok(dependents.length >= 5, `expected five programs at least, there are ${dependents.length}`)
  assert.equal(changed.length, dependents.length + 1)

  await t.test('without build-ids: made of the older ones, and upstream gives zlib alone', async (t) => {
    const own = await openStage(t, stage)
    const upstream = await startBadServer(own, new URL(cache), () => PASS)
    const link = await startCountingProxy(own, upstream.url)
    const nix = await openMachineWith(own, 'machine', built, [before])
    const settings = { upstreams: [link.url], trust: { keys: [publicKey] } }
    const consumer = await openConsumer(own, settings, [], nix)
    const installed = await installEach(consumer, publicKey, link, changed)
    printTable(t, await withZstd(everything, installed))
    for (const { path, narWireBytes, sources } of installed) {
      if (!dependents.includes(path)) continue
      const name = nameOfPath(path.path)
      assert.deepEqual([name, narWireBytes, [...sources]], [name, 0, [['rewritten', path.narSize]]])
    }
    await consumer.narswarm.stop()
  })

  await t.test('without build-ids, asked for all at once: the same', async (t) => {
    const own = await openStage(t, stage)
    const upstream = await startBadServer(own, new URL(cache), () => PASS)
    const nix = await openMachineWith(own, 'machine', built, [before])
    const settings = { upstreams: [upstream.url], trust: { keys: [publicKey] } }
    const consumer = await openConsumer(own, settings, [], nix)
    const { ok, stderr } = await consumer.realise([topOf(tops, after)], { url: consumer.url, publicKey })
    assert.ok(ok, stderr)
    await consumer.verify()
    assert.equal(upstream.asked.filter((path) => path.startsWith('nar/')).length, 1)
    const { sources } = await consumer.narswarm.status()
    const rewritten = sources.find(({ id }) => id === 'rewritten')
    assert.equal(
      rewritten?.bytes,
      sumOf(dependents, ({ narSize }) => narSize),
    )
    await consumer.narswarm.stop()
  })

  await t.test('with build-ids: a neighbour that has both gives the differences', async (t) => {
    const own = await openStage(t, stage)
    const [old, wanted] = [generationName('sha1', 'before'), generationName('sha1', 'after')]
    const { consumer, link } = await openNeighbours(own, everything, built, old)
    const paths = changedPaths(everything, topOf(tops, old), topOf(tops, wanted))
    const rows = await withZstd(everything, await installEach(consumer, publicKey, link, paths))
    printTable(t, rows)
    const ofDependents = rows.filter(({ path }) => !isZlib(path))
    const [wire, most] = [
      sumOf(ofDependents, ({ narWireBytes }) => narWireBytes),
      MOST_WITH_BUILD_IDS * sumOf(ofDependents, ({ zstdBytes }) => zstdBytes),
    ]
    assert.ok(wire <= most, `expected ${Math.floor(most)} bytes of NARs at most, got ${wire}`)
    await consumer.narswarm.stop()
  })
})

function isZlib({ path }: ValidPath): boolean {
  return nameOfPath(path).startsWith('zlib-')
}
