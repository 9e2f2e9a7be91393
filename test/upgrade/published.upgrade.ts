import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openStage } from '../e2e/kit/stage.ts'
import { openMachineWith, orSkip, topOf } from './kit/generations.ts'
import { changedPaths, installEach } from './kit/installs.ts'
import { openNeighbours } from './kit/neighbours.ts'
import { publishedPackages } from './kit/published.ts'
import { skipWithout } from './kit/skip.ts'
import { printTable, sumOf, withZstd } from './kit/table.ts'

const LEAST_PACKAGES = 5
/** Of the zstd size of the newer versions. */
const MOST = 0.35
const TEST_MS = 1200_000
const skip = skipWithout(['apt-get', 'dpkg-deb'])

test('packages in two versions that Debian published', { skip, timeout: TEST_MS }, async (t) => {
  const stage = await openStage(t, undefined, TEST_MS)
  const packages = await orSkip(t, publishedPackages(stage, LEAST_PACKAGES))
  if (packages === undefined) return
  const { publicKey, tops } = packages
  const everything = await openMachineWith(stage, 'everything', packages, ['before', 'after'])
  const paths = changedPaths(everything, topOf(tops, 'before'), topOf(tops, 'after'))

  await t.test('a neighbour that has both gives the differences', async (t) => {
    const own = await openStage(t, stage, TEST_MS)
    const { consumer, link } = await openNeighbours(own, everything, packages, 'before')
    const rows = await withZstd(everything, await installEach(consumer, publicKey, link, paths))
    printTable(t, rows)
    const [wire, most] = [
      sumOf(rows, ({ narWireBytes }) => narWireBytes),
      MOST * sumOf(rows, ({ zstdBytes }) => zstdBytes),
    ]
    assert.ok(wire <= most, `expected ${Math.floor(most)} bytes of NARs at most, got ${wire}`)
    await consumer.narswarm.stop()
  })
})
