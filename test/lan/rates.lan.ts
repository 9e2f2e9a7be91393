import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { text } from 'node:stream/consumers'
import { suite, test } from 'node:test'
import type { TestContext } from 'node:test'
import { createCache, randomNar } from '../../bench/kit/cache.ts'
import type { BenchNar } from '../../bench/kit/cache.ts'
import { narHashDigest } from '../../src/nix/hash.ts'
import { openStage } from '../e2e/kit/stage.ts'
import type { Stage } from '../e2e/kit/stage.ts'
import { openNixWith } from './kit/closure.ts'
import type { Closure } from './kit/closure.ts'
import { openLan } from './kit/lan.ts'
import { openMachine, untilIndexed } from './kit/machine.ts'
import type { Machine } from './kit/machine.ts'
import { untilFound } from './kit/neighbours.ts'
import { programNar } from './kit/programs.ts'
import { skipWithoutLan } from './kit/skip.ts'

const BYTES = 200_000_000
const LINK_MBIT = 100
/** Of what a link of 100 Mbit/s carries, headers and all, 95.6 % is TCP's payload. */
const LEAST_OF_LINKS = 0.9
const LEAST_OF_RAW = 2.5
const TEST_MS = 600_000

interface Case {
  readonly title: string
  readonly givers: readonly string[]
  readonly nar: (
    signal: AbortSignal,
  ) => AsyncIterable<Uint8Array> | Iterable<Uint8Array> | Promise<AsyncIterable<Uint8Array>>
  readonly leastMbit: number
}

const CASES: readonly Case[] = [
  {
    title: 'random bytes from one neighbour: nine tenths of its link',
    givers: ['a'],
    nar: () => randomNar(BYTES),
    leastMbit: LEAST_OF_LINKS * LINK_MBIT,
  },
  {
    title: 'random bytes from two neighbours: nine tenths of both links together',
    givers: ['a', 'c'],
    nar: () => randomNar(BYTES),
    leastMbit: LEAST_OF_LINKS * LINK_MBIT * 2,
  },
  {
    title: 'programs from one neighbour: two and a half times what its link carries',
    givers: ['a'],
    nar: (signal) => programNar(BYTES, signal),
    leastMbit: LEAST_OF_RAW * LINK_MBIT,
  },
]

suite('links of 100 Mbit/s', { skip: skipWithoutLan() }, () => {
  for (const { title, givers, nar, leastMbit } of CASES) {
    test(title, async (t) => {
      const stage = await openStage(t, undefined, TEST_MS)
      const lan = await openLan(stage)
      const closure = await closureOfOne(stage, await nar(stage.signal))
      const { publicKey } = closure
      for (const name of givers) {
        const host = await lan.addHost(name)
        const giver = await openMachine(stage, host, {
          publicKey,
          nix: await openNixWith(stage, host, closure),
        })
        await untilIndexed(giver)
        await host.limit({ up: LINK_MBIT, down: LINK_MBIT })
      }
      const b = await openMachine(stage, await lan.addHost('b'), { publicKey })
      await untilFound(b, givers.length, stage.signal)
      const mbit = await rate(t, b, closure.nars[0])
      assert.ok(mbit >= leastMbit, `expected at least ${leastMbit} Mbit/s, got ${mbit.toFixed(1)}`)
      await b.narswarm.stop()
    })
  }
})

async function closureOfOne(
  stage: Stage,
  nar: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): Promise<Closure> {
  const dir = `${stage.dir}/cache`
  const cache = await createCache(dir)
  const only = await cache.add('only', nar)
  return {
    publicKey: cache.publicKey,
    dir,
    nars: [only],
    top: `/nix/store/${only.storePath}`,
    bytes: only.narSize,
  }
}

/** As Nix asks: narinfo, NAR. @returns Mbit/s from the request for the NAR to its last byte */
async function rate(
  t: TestContext,
  { host, url, narswarm }: Machine,
  nar: BenchNar | undefined,
): Promise<number> {
  if (nar === undefined) throw new Error('an empty closure')
  const narInfo = await host.get(`${url}/${nar.narInfoPath}`)
  const narUrl = /^URL: (.*)$/m.exec(await text(narInfo))?.[1]
  assert.ok(narUrl !== undefined, `no narinfo: ${narInfo.statusCode}`)
  const hash = createHash('sha256')
  const begun = performance.now()
  for await (const piece of await host.get(`${url}/${narUrl}`)) hash.update(piece as Uint8Array)
  const ms = performance.now() - begun
  assert.equal(hash.digest('hex'), Buffer.from(narHashDigest(nar.narHash)).toString('hex'))
  const mbit = (nar.narSize * 8) / ms / 1000
  const { sources } = await narswarm.status()
  t.diagnostic(`${nar.narSize} bytes at ${mbit.toFixed(1)} Mbit/s; ${JSON.stringify(sources)}`)
  return mbit
}
