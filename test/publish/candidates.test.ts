import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { hashPartOf } from '../../src/nix/store-path.ts'
import type { NarInfo } from '../../src/nix/narinfo.ts'
import { fromCache } from '../../src/publish/candidates.ts'
import { PublishError } from '../../src/publish/errors.ts'
import type { NarInfoSource } from '../../src/source.ts'
import { noise, options, planOf } from '../spool/kit.ts'
import { narInfoOf, pathNamed } from '../substitute/kit.ts'

/** A cache of paths that refer to each other by name. */
function cacheOf(references: Record<string, string[]>): NarInfoSource & { asked: string[] } {
  const infos = new Map<string, NarInfo>()
  for (const [name, names] of Object.entries(references)) {
    const info = narInfoOf(planOf(noise(10, name)), name)
    infos.set(hashPartOf(info.storePath), { ...info, references: names.map(pathNamed) })
  }
  const asked: string[] = []
  return {
    id: 'cache',
    cost: 40,
    asked,
    async lookup(hashPart) {
      asked.push(hashPart)
      const info = infos.get(hashPart)
      return info === undefined ? undefined : { info, from: 'cache' }
    },
  }
}

const names = async (cache: NarInfoSource, ...asked: string[]): Promise<string[]> => {
  const parts = asked.map((name) => hashPartOf(pathNamed(name)))
  return (await fromCache(cache, parts, options)).map(({ info }) => info.storePath.slice(33))
}

describe('candidates from a cache', () => {
  it('are the closure, each once, references first', async () => {
    const cache = cacheOf({ app: ['lib', 'app'], lib: ['base'], base: [], tool: ['base'] })
    assert.deepEqual(await names(cache, 'app', 'tool', 'app'), ['base', 'lib', 'app', 'tool'])
    assert.equal(cache.asked.length, 4)
  })
  it('need every reference', async () => {
    await assert.rejects(names(cacheOf({ app: ['lib'] }), 'app'), (error) => {
      assert.ok(error instanceof PublishError)
      assert.match(error.message, /does not have .*, wanted by .*-app/)
      return true
    })
  })
  it('are not another path than was asked for', async () => {
    const other = narInfoOf(planOf(noise(10)), 'other')
    const cache: NarInfoSource = {
      id: 'cache',
      cost: 40,
      lookup: async () => ({ info: other, from: 'cache' }),
    }
    await assert.rejects(names(cache, 'app'), /asked cache for .*, got a narinfo of .*-other/)
  })
  it('of a chain of 3,000 paths do not exhaust the stack', async () => {
    const chain = Object.fromEntries(
      Array.from({ length: 3_000 }, (_, i) => [`p${i}`, i < 2_999 ? [`p${i + 1}`] : []]),
    )
    const found = await names(cacheOf(chain), 'p0')
    assert.equal(found.length, 3_000)
    assert.equal(found[0], 'p2999')
  })
})
