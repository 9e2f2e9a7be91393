import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  NEIGHBOUR_IN_VAIN_COUNT,
  NEIGHBOUR_SILENT_MS,
  NEIGHBOUR_WAIT_MS,
  NEIGHBOURS_KEPT_COUNT,
} from '../../src/limits.ts'
import { hashPartOf } from '../../src/nix/store-path.ts'
import { COST, SourceRestingError } from '../../src/source.ts'
import type { NarInfoSource } from '../../src/source.ts'
import { createNeighbourSources } from '../../src/swarm/neighbour-sources.ts'
import type { NeighbourSources } from '../../src/swarm/neighbour-sources.ts'
import type { Neighbours } from '../../src/swarm/neighbours.ts'
import { createXzThreads } from '../../src/upstream/xz-threads.ts'
import { recordingLog } from '../kit/log.ts'
import { STORE_DIR } from '../nix/genuine.ts'
import { collect, noise, options, planOf } from '../spool/kit.ts'
import { blocksOf, KIB, narInfoOf, until } from '../substitute/kit.ts'
import { cacheFiles, gatewayFiles, narInfoFile, serveNear } from './near-server.ts'
import type { Mischief } from './near-server.ts'
import { neighbour, neighboursOf } from './near.ts'

const nar = noise(300 * KIB)
const plan = planOf(nar)
const info = { ...narInfoOf(plan), cid: plan.root.toString() }
const hashPart = hashPartOf(info.storePath)
const files = new Map([...cacheFiles(info, nar), ...gatewayFiles(blocksOf(nar))])

function sourcesOf(
  t: TestContext,
  neighbours: Neighbours,
  clock = (): number => performance.now(),
): NeighbourSources {
  const near = createNeighbourSources(
    {
      neighbours,
      xzThreads: createXzThreads(),
      clock,
      random: () => 0.5,
      log: recordingLog(),
    },
    { storeDir: STORE_DIR },
  )
  t.after(() => near.close())
  return near
}

/** One machine that does mischief, as the table sees it. */
async function withOne(
  t: TestContext,
  mischief?: Mischief,
  kind: 'narswarm' | 'cache' = 'narswarm',
  clock?: () => number,
) {
  const server = await serveNear(t, files, mischief)
  const table = neighboursOf(neighbour('one', server.url, kind))
  const near = sourcesOf(t, table, clock)
  const [source] = near.narInfos()
  assert.ok(source)
  return { server, table, near, source }
}

describe('a neighbour as a source', () => {
  it('gives a narinfo with CID and stream, and blocks; cheaper than any peer', async (t) => {
    const { near, source, table } = await withOne(t)
    const candidate = await source.lookup(hashPart, options)
    assert.equal(candidate?.info.narHash, info.narHash)
    assert.equal(candidate?.cid?.toString(), info.cid)
    assert.equal(candidate?.from, 'neighbour:one')
    const { stream } = candidate ?? {}
    assert.ok(stream)
    assert.deepEqual([stream.id, stream.cost], ['neighbour:one/nar', COST.neighbour])
    assert.deepEqual(await collect(stream.open(info, 0, options)), nar)
    assert.deepEqual(await collect(stream.open(info, 1_000, options)), nar.subarray(1_000))
    const [blocks] = near.blocks()
    assert.deepEqual([blocks?.id, blocks?.cost], ['neighbour:one', COST.neighbour])
    assert.deepEqual(await blocks?.fetch({ cid: plan.root, maxBytes: nar.length }, options), nar)
    assert.deepEqual(table.told.answered, ['narswarm:one'])
    assert.deepEqual([...table.told.failed, ...table.told.lied], [])
  })
  it('is the same source each time, until it is left alone', async (t) => {
    const { near, source, table } = await withOne(t)
    assert.equal(near.narInfos()[0], source)
    assert.equal(near.blocks()[0], near.blocks()[0])
    table.failed('narswarm:one', 'gone')
    assert.deepEqual([near.narInfos(), near.blocks()], [[], []])
  })
  it('that is a cache alone is asked for no blocks', async (t) => {
    const { near, source } = await withOne(t, undefined, 'cache')
    assert.deepEqual(near.blocks(), [])
    assert.ok(await source.lookup(hashPart, options))
  })
  it('that is a gateway alone is told no path that we look for', async (t) => {
    const server = await serveNear(t, gatewayFiles(blocksOf(nar)))
    const near = sourcesOf(t, neighboursOf({ ...neighbour('x', server.url), hasCache: false }))
    assert.deepEqual(near.narInfos(), [])
    assert.equal(near.blocks()[0]?.id, 'neighbour:x')
  })
  it('is told of an older block as soon as its probe has said that it knows differences', async (t) => {
    const named: unknown[] = []
    const server = await serveNear(t, files, (_, __, { req }) => {
      named.push(req.headers['available-dictionary'] !== undefined)
      return false
    })
    const one = { ...neighbour('one', server.url), id: `cache:${server.url.href}` }
    let knowsDifferences = false
    const near = sourcesOf(t, { ...neighboursOf(), current: () => [{ ...one, knowsDifferences }] })
    const old = () => ({
      digest: new Uint8Array(32),
      lend: () => assert.fail('nobody answered by difference'),
    })
    const [first = assert.fail()] = near.blocks()
    knowsDifferences = true
    const [second] = near.blocks()
    assert.equal(second, first)
    await first.fetch({ cid: plan.root, maxBytes: nar.length, old }, options)
    // What it says in its answers is newer.
    await first.fetch({ cid: plan.root, maxBytes: nar.length, old }, options)
    assert.deepEqual(named, [true, false])
  })
  it('a miss costs nothing', async (t) => {
    const { source, table } = await withOne(t, (path, _, response) => {
      if (!path.endsWith('.narinfo')) return false
      response.writeHead(404).end()
      return true
    })
    assert.equal(await source.lookup(hashPart, options), undefined)
    assert.deepEqual(table.told, { failed: [], lied: [], answered: ['narswarm:one'] })
  })
  it('costs what a peer does when it was named and is far', (t) => {
    const near = sourcesOf(t, neighboursOf(neighbour('far', 'https://cache.example/x/')))
    assert.equal(near.narInfos()[0]?.cost, COST.peer)
  })

  const text = (change: (text: string) => string): Mischief => {
    return (path, body) =>
      path.endsWith('.narinfo') && body !== undefined
        ? Buffer.from(change(Buffer.from(body).toString()))
        : false
  }
  const says =
    (status: number, body = '', headers: Record<string, string> = {}): Mischief =>
    (path, _, response) => {
      if (!path.endsWith('.narinfo')) return false
      response.writeHead(status, headers).end(body)
      return true
    }
  const other = narInfoOf(plan, 'other-1.0')
  const cases: readonly [string, Mischief, 'failed' | 'lied', RegExp][] = [
    ['500', says(500), 'failed', /got 500/],
    ['a page with status 200', says(200, '<!DOCTYPE html>\n<p>Log in: </p>\n'), 'failed', /narinfo/],
    ['a redirect to another path of it', says(302, '', { location: '/x' }), 'failed', /redirect/],
    ['a redirect to elsewhere', says(302, '', { location: 'http://169.254.169.254/' }), 'failed', /redirect/],
    ['a hang-up', (path, _, response) => path.endsWith('.narinfo') && !!response.destroy(), 'failed', /./],
    [
      'a NAR elsewhere',
      text((told) => told.replace(/URL: .*/, 'URL: http://169.254.169.254/x.nar')),
      'failed',
      /expected a file below/,
    ],
    [
      'another path',
      text(() => Buffer.from(cacheFiles(other, nar).get(narInfoFile(other)) ?? '').toString()),
      'lied',
      /expected a store path with the hash part/,
    ],
    ['another store', text((told) => told.replaceAll(STORE_DIR, '/gnu/store')), 'lied', /StorePath/],
  ]
  for (const [title, mischief, verdict, reason] of cases) {
    it(`${verdict} with ${title} for a narinfo`, async (t) => {
      const { source, table, server } = await withOne(t, mischief)
      await assert.rejects(source.lookup(hashPart, options))
      assert.equal(table.told[verdict].length, 1)
      assert.match(table.told[verdict][0] ?? '', reason)
      assert.equal(table.told.failed.length + table.told.lied.length, 1)
      assert.equal(server.asked.length, 1, 'it was asked again')
    })
  }

  it('that asks to be left alone is, and has not failed', async (t) => {
    const busy: Mischief = (_path, _body, response) => {
      response.writeHead(429, { 'retry-after': '60' }).end()
      return true
    }
    let isBusy = false
    const { near, source, table, server } = await withOne(t, (...call) => isBusy && busy(...call))
    const candidate = await source.lookup(hashPart, options)
    isBusy = true
    const { stream } = candidate ?? {}
    assert.ok(stream)
    await assert.rejects(collect(stream.open(info, 0, options)), SourceRestingError)
    const [blocks] = near.blocks()
    for (let i = 0; i < 2; i++) {
      await assert.rejects(
        Promise.resolve(blocks?.fetch({ cid: plan.root, maxBytes: nar.length }, options)),
        SourceRestingError,
      )
    }
    await assert.rejects(source.lookup(hashPart, options), SourceRestingError)
    assert.equal(source.rests, true)
    assert.equal(server.asked.length, 3, 'the narinfo, the NAR, one block')
    assert.deepEqual(table.told, { failed: [], lied: [], answered: ['narswarm:one'] })
  })
  it('that is not there has failed at once', async (t) => {
    const { source, table, server } = await withOne(t)
    server.die()
    await assert.rejects(source.lookup(hashPart, options), /ECONNREFUSED/)
    assert.match(table.told.failed[0] ?? '', /ECONNREFUSED/)
  })
  it('that is silent is waited for briefly, then not at all, then has failed', async (t) => {
    const { source, table } = await withOne(t, (path) => path.endsWith('.narinfo'))
    assert.equal(source.waitMs, NEIGHBOUR_WAIT_MS)
    const asked = assert.rejects(
      source.lookup(hashPart, options),
      new RegExp(`within ${NEIGHBOUR_SILENT_MS} ms`),
    )
    await until(() => source.waitMs === 0)
    assert.deepEqual(table.told.failed, [])
    await asked
    assert.equal(table.told.failed.length, 1)
  })
  it('that is busy with our own NARs is late, and has not failed', async (t) => {
    const { source, near, table } = await withOne(t, (path) => path.endsWith('.narinfo'))
    const asked = assert.rejects(source.lookup(hashPart, options))
    await sleep(NEIGHBOUR_SILENT_MS / 2)
    await near.blocks()[0]?.fetch({ cid: plan.root, maxBytes: nar.length }, options)
    await asked
    assert.deepEqual(table.told.failed, [])
    assert.equal(source.waitMs, NEIGHBOUR_WAIT_MS)
  })
  it('who gives up says nothing about it', async (t) => {
    const { source, table } = await withOne(t, (path) => path.endsWith('.narinfo'))
    const abort = new AbortController()
    const asked = assert.rejects(source.lookup(hashPart, { signal: abort.signal }), /enough/)
    abort.abort(new Error('enough'))
    await asked
    assert.deepEqual(table.told.failed, [])
  })
})

describe('what others found out', () => {
  it('is told to the table, by either name; of strangers nothing', async (t) => {
    const { near, table } = await withOne(t)
    near.verdicts.answered('neighbour:one')
    near.verdicts.faulted('neighbour:one', 'a')
    near.verdicts.lied('neighbour:one/nar', 'b')
    near.verdicts.faulted('upstream:one', 'c')
    near.verdicts.lied('neighbour:two', 'd')
    assert.deepEqual(table.told, {
      failed: ['narswarm:one: a'],
      lied: ['narswarm:one: b'],
      answered: ['narswarm:one'],
    })
  })
  it('one that was slower than others is asked again, but not for ever', async (t) => {
    const { near, table } = await withOne(t)
    const slow = (): void => near.verdicts.faulted('neighbour:one', undefined)
    for (let i = 1; i < NEIGHBOUR_IN_VAIN_COUNT; i++) slow()
    await near.blocks()[0]?.fetch({ cid: plan.root, maxBytes: nar.length }, options)
    for (let i = 1; i < NEIGHBOUR_IN_VAIN_COUNT; i++) slow()
    assert.deepEqual(table.told.failed, [])
    slow()
    assert.deepEqual(table.told.failed, [
      'narswarm:one: nothing came of what it was asked for until others had given it, 3 times in a row',
    ])
  })
  it('one that failed to give bytes makes up for it by bytes, and not by narinfos', async (t) => {
    const { near, source, table } = await withOne(t)
    const [blocks] = near.blocks()
    near.verdicts.faulted('neighbour:one', 'it stalled')
    await source.lookup(hashPart, options)
    near.verdicts.answered('neighbour:one')
    assert.deepEqual(table.told.answered, [])
    await blocks?.fetch({ cid: plan.root, maxBytes: nar.length }, options)
    near.verdicts.answered('neighbour:one')
    assert.deepEqual(table.told.answered, ['narswarm:one'])
  })
  for (const [title, silentMs, hasFailed] of [
    ['hangs in the middle of each block is left alone', 1_000, true],
    ['is in the middle of each block when others have given it is slow, and asked again', 0, false],
  ] as const) {
    it(`one that ${title}`, async (t) => {
      let now = 1_000_000
      const { near, table } = await withOne(
        t,
        (path, body, response) => {
          if (!path.startsWith('ipfs/') || body === undefined) return false
          response.writeHead(200, { 'content-length': body.length }).write(body.subarray(0, body.length >> 1))
          return true
        },
        'narswarm',
        () => now,
      )
      const [blocks] = near.blocks()
      for (let i = 1; i <= NEIGHBOUR_IN_VAIN_COUNT; i++) {
        const abort = new AbortController()
        const { promise: half, resolve } = Promise.withResolvers<void>()
        let came = 0
        const onBytes = (count: number): void => {
          came += count
          if (came === nar.length >> 1) resolve()
        }
        const asked = assert.rejects(
          Promise.resolve(
            blocks?.fetch({ cid: plan.root, maxBytes: nar.length, onBytes }, { signal: abort.signal }),
          ),
        )
        await half
        now += silentMs
        abort.abort(new Error('another one gave it'))
        await asked
        near.verdicts.faulted('neighbour:one', undefined)
      }
      assert.equal(table.told.failed.length, hasFailed ? 1 : 0)
    })
  }
  it('those that left long ago are forgotten, and what is under way there is cut', async (t) => {
    const server = await serveNear(t, files, (path) => path.startsWith('ipfs/'))
    let current = [neighbour('old', server.url)]
    const near = sourcesOf(t, { ...neighboursOf(), current: () => current })
    const [old] = near.blocks()
    const asked = assert.rejects(
      old?.fetch({ cid: plan.root, maxBytes: nar.length }, options) ?? Promise.resolve(),
      (error: Error) => error.name === 'SourceFaultError',
    )
    const come = (at: number): readonly NarInfoSource[] => {
      current = [neighbour(`n${at}`, `http://127.0.0.1:1/${at}/`)]
      return near.narInfos()
    }
    for (let at = 0; at < NEIGHBOURS_KEPT_COUNT; at++) come(at)
    current = [neighbour('old', server.url)]
    assert.equal(near.blocks()[0], old)
    for (let at = 0; at <= NEIGHBOURS_KEPT_COUNT; at++) come(at)
    await asked
  })
})
