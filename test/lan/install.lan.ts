import assert from 'node:assert/strict'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { openStage } from '../e2e/kit/stage.ts'
import { makeClosure, openNixWith } from './kit/closure.ts'
import { openLan } from './kit/lan.ts'
import { openMachine } from './kit/machine.ts'
import { call } from './kit/namespace.ts'
import { untilFound } from './kit/neighbours.ts'
import { skipWithoutLan } from './kit/skip.ts'

const BYTES = Number(process.env['NARSWARM_LAN_BYTES'] ?? 1_000_000_000)
/** As stores are: a few paths have most of the bytes. */
const SIZES = [0.002, 0.4, ...share(3, 0.3), ...share(20, 0.2), ...share(100, 0.098)].map((part) =>
  Math.round(part * BYTES),
)
/** What they take with nothing in them, and some room. */
const DATABASES_BYTES = 1_000_000
const DISCOVERY_MS = 3_000
const TEST_MS = 900_000

function share(count: number, part: number): number[] {
  return Array.from({ length: count }, () => part / count)
}

test(
  'B installs a closure from A, and C what B then has: nothing is set up but the profile, and there is no upstream',
  { skip: skipWithoutLan() },
  async (t) => {
    const stage = await openStage(t, undefined, TEST_MS)
    const lan = await openLan(stage)
    const closure = await makeClosure(stage, 'all', SIZES)
    const { publicKey, top, nars } = closure
    const hostA = await lan.addHost('a')
    const nix = await openNixWith(stage, hostA, closure)
    const a = await openMachine(stage, hostA, { publicKey, nix })
    const b = await openMachine(stage, await lan.addHost('b'), { publicKey })

    const foundMs = await untilFound(b, 1, stage.signal)
    const begun = performance.now()
    await b.install([top])
    const seconds = (performance.now() - begun) / 1000
    t.diagnostic(`A found after ${foundMs.toFixed(0)} ms, ${nars.length} paths in ${seconds.toFixed(1)} s`)
    assert.ok(foundMs < DISCOVERY_MS, `A was found after ${foundMs.toFixed(0)} ms`)
    assert.equal(b.validPaths().length, nars.length)

    await t.test('the spool of B holds nothing of it any more', async () => {
      await b.narswarm.until(({ spool }) => spool.nars === 0 && spool.parts === 0)
      const files = await readdir(join(b.narswarm.stateDir, 'spool'), { recursive: true })
      assert.deepEqual(
        files.filter((name) => name.endsWith('.nar')),
        [],
      )
    })

    await t.test('C has it from B, which never built or published anything', async (t) => {
      await a.narswarm.stop()
      const c = await openMachine(stage, await lan.addHost('c'), { publicKey })
      await untilFound(c, 1, stage.signal)
      await c.install([top])
      assert.deepEqual(c.validPaths(), b.validPaths())
      const { sources } = await c.narswarm.status()
      t.diagnostic(JSON.stringify(sources.map(({ id, bytes }) => ({ id, bytes }))))
      await c.narswarm.stop()
    })

    await t.test('sharing took A less than a thousandth of it on disk', async (t) => {
      const [kept = ''] = (await call('du', ['-s', '-B1', a.narswarm.stateDir])).split('\t')
      t.diagnostic(`${kept} bytes beside a store of ${closure.bytes}`)
      assert.ok(Number(kept) < Math.max(closure.bytes / 1000, DATABASES_BYTES))
    })
    await b.narswarm.stop()
  },
)
