import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import * as fc from 'fast-check'
import { COST } from '../../src/source.ts'
import type { StreamSource } from '../../src/source.ts'
import { createAlongWays } from '../../src/substitute/along-ways.ts'
import type { AlongWays, Part } from '../../src/substitute/along-ways.ts'
import { noise, options, planOf } from '../spool/kit.ts'

const { narHash, narSize } = planOf(noise(1_000))
const nar = { narHash, narSize }

describe('the part that a transfer plays', () => {
  it('is another one at each turn, and told', async () => {
    const source: StreamSource = {
      id: 'neighbour:x/nar',
      cost: COST.neighbour,
      async *open() {
        yield new Uint8Array(1)
      },
    }
    const found = [source, undefined]
    const parts: Part[] = []
    const along = createAlongWays(nar, { find: async () => found.shift() }, () => parts.push(along.part))
    assert.equal(along.part, 'deciding')
    const tried = new Set<string>()
    const ways = along.ways(tried, options)
    const { value: way } = await ways.next()
    assert.ok(way?.kind === 'stream')
    assert.deepEqual([...tried], [source.id])
    for await (const _ of way.source.open(nar, 0, options)) assert.equal(along.part, 'along')
    assert.equal((await ways.next()).done, true)
    along.own()
    assert.equal(along.part, 'own')
    assert.deepEqual(parts, ['along', 'deciding', 'own'])
  })
  it('is decided at once where there is nobody to ask', async () => {
    const along = createAlongWays(nar, undefined, () => {})
    assert.deepEqual(await Array.fromAsync(along.ways(new Set(), options)), [])
    along.own()
    assert.equal(along.part, 'own')
  })
  it('is not its own while it looks around again', async () => {
    const answer = Promise.withResolvers<undefined>()
    const along = createAlongWays(nar, { find: () => answer.promise }, () => {})
    along.own()
    const looking = along.ways(new Set(), options).next()
    assert.equal(along.part, 'deciding')
    answer.resolve(undefined)
    await looking
    assert.equal(along.part, 'own')
  })
  it('lets nobody follow himself, in whatever order things happen', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.scheduler(),
        fc.integer({ min: 2, max: 5 }),
        fc.infiniteStream(fc.nat({ max: 99 })),
        async (scheduler, count, random) => {
          const pick = (n: number): number => (random.next().value as number) % n
          /** Whom each follows. */
          const follows = new Map<number, number>()
          const nodes: AlongWays[] = []
          const step = (what: string): Promise<unknown> => scheduler.schedule(Promise.resolve(), what)

          const streamOf = (own: number, other: number): StreamSource => ({
            id: `${other}`,
            cost: COST.neighbour,
            async *open() {
              await step(`${own} asks ${other} for the bytes`)
              // What src/publish/under-way.ts looks at.
              if (nodes[other]?.part !== 'own') return
              follows.set(own, other)
              assertNoCircle(follows)
              // The answer is on its way, and what it brings.
              for (let i = pick(4); i >= 0; i--) await step(`${other} gives to ${own}`)
              yield new Uint8Array(1)
              follows.delete(own)
            },
          })
          for (let own = 0; own < count; own++) {
            nodes.push(
              createAlongWays(
                nar,
                {
                  async find(_, tried) {
                    await step(`${own} asks who has it`)
                    const all = nodes.flatMap((one, i) => (one.part === 'own' ? [i] : []))
                    const others = all.filter((i) => i !== own && !tried.has(`${i}`))
                    const other = others[pick(Math.max(1, others.length))]
                    return other === undefined ? undefined : streamOf(own, other)
                  },
                },
                () => {},
              ),
            )
          }
          const runs = nodes.map(async (along, own) => {
            for (let round = 0; round < 4; round++) {
              for await (const way of along.ways(new Set(), options)) {
                if (way.kind !== 'stream') continue
                await step(`${own} may take its time`)
                for await (const _ of way.source.open(nar, 0, options)) break
                follows.delete(own)
              }
              along.own()
              for (let i = pick(4); i >= 0; i--) await step(`${own} fetches`)
            }
          })
          await scheduler.waitFor(Promise.all(runs))
        },
      ),
      { numRuns: 50 },
    )
  })
})

function assertNoCircle(follows: ReadonlyMap<number, number>): void {
  for (const start of follows.keys()) {
    const seen = new Set<number>()
    for (let at: number | undefined = start; at !== undefined; at = follows.get(at)) {
      assert.ok(!seen.has(at), `${[...seen].join(' follows ')} follows ${at}`)
      seen.add(at)
    }
  }
}
