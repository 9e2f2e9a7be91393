import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { readCar } from '../../src/dag/car.ts'
import { nodeCid, rawCid } from '../../src/dag/cid.ts'
import type { LocalBlocks } from '../../src/spool/local-blocks.ts'
import { skipWithoutVectors, vectorsDir } from '../kit/vectors.ts'
import { parseKuboCases } from './kubo-cases.ts'
import type { KuboCase } from './kubo-cases.ts'
import { exchange, getRequest, pattern, serve, statusOf, testBlocks, testNar, testPeer } from './kit.ts'
import type { TestNar } from './kit.ts'

const ORIGIN = 'http://10.0.0.7:6278'
const MIB = 1_048_576

function testGateway(nars: readonly TestNar[], blocks: LocalBlocks = testBlocks(nars)) {
  return testPeer(nars, { blocks })
}

/** Bytes i mod 251, as Kubo had them: the same pattern as the kit's, and so the same CIDs. */
const mod251 = testNar(pattern(3 * MIB + 7))

/** What we do not do as Kubo, with the status instead and the reason. */
const DEVIATIONS: [matches: (one: KuboCase) => boolean, status: number][] = [
  // A tar and a page would need UnixFS to be decoded here; a trustless gateway serves what the client can check.
  [(one) => one.target.endsWith('format=tar'), 406],
  [(one) => one.requestHeaders['Accept'] === 'text/html', 400],
]

/** OPTIONS is for CORS, which we refuse; node adds the other one on a socket. */
const NOT_COMPARED = new Set(['allow', 'transfer-encoding'])
/** The words of errors are ours, and none of ours is cached. */
const NOT_COMPARED_OF_ERRORS = new Set(['content-length', 'etag', 'cache-control', 'x-ipfs-roots'])

const dir = vectorsDir()
const file = dir === undefined ? undefined : `${dir}kubo/gateway.txt`
const cases = file !== undefined && existsSync(file) ? parseKuboCases(readFileSync(file, 'utf8')) : []

test('the table of what Kubo answered is there', { skip: skipWithoutVectors() }, () => {
  assert.ok(cases.length >= 20, `${cases.length} cases`)
  assert.ok(cases.every(({ status, target }) => status >= 200 && target.startsWith('/ipfs/')))
})

test(
  'the CAR of the table is the one that our own planner makes',
  { skip: skipWithoutVectors() },
  async () => {
    const car = await readCar(chunked(readFileSync(`${dir}kubo/mod251-3145735.car`)))
    assert.equal(car.roots[0]?.toString(), mod251.plan.root.toString())
  },
)

for (const one of cases) {
  const deviation = DEVIATIONS.find(([matches]) => matches(one))?.[1]
  test(`${deviation === undefined ? 'as Kubo' : `unlike Kubo, ${deviation}`}: ${one.title}`, async () => {
    const { app, log } = testGateway([mod251])
    const response = await app.request(ORIGIN + one.target, {
      method: one.method,
      headers: one.requestHeaders,
    })
    const body = Buffer.from(await response.arrayBuffer())
    assert.equal(response.status, deviation ?? one.status)
    assert.deepEqual(log.lines, [])
    if (deviation !== undefined) return
    const failed = one.status >= 400
    for (const [name, value] of Object.entries(one.headers)) {
      if (NOT_COMPARED.has(name) || (failed && NOT_COMPARED_OF_ERRORS.has(name))) continue
      // What a weak one says is nobody's business but its maker's.
      if (value.startsWith('W/')) assert.match(response.headers.get(name) ?? '', /^W\/".+"$/)
      else assert.equal(response.headers.get(name), value, name)
    }
    if (one.body === undefined) assert.equal(body.length, 0)
    else if (!failed) {
      assert.equal(body.length, one.body.size)
      assert.equal(createHash('sha256').update(body).digest('hex'), one.body.sha256)
    }
  })
}

const leaf = rawCid(mod251.plan.leaves.subarray(0, 32)).toString()
const root = mod251.plan.root.toString()

const REQUESTS: [target: string, headers: Record<string, string>, status: number][] = [
  [`/ipfs/${leaf}`, {}, 400],
  [`/ipfs/${leaf}`, { Accept: '*/*' }, 400],
  [`/ipfs/${leaf}?format=html`, {}, 400],
  [`/ipfs/${leaf}?format=json`, {}, 406],
  [`/ipfs/${leaf}?format=raw`, { Accept: 'application/vnd.ipld.car' }, 200],
  [`/ipfs/${leaf}`, { Accept: 'text/html, application/vnd.ipld.raw;q=0.5' }, 200],
  [`/ipfs/${leaf}?format=raw`, { Range: 'bytes=-0' }, 416],
  [`/ipfs/${leaf}?format=raw`, { 'If-None-Match': '"another"' }, 200],
  [`/ipfs/${leaf}?format=raw`, { 'Cache-Control': 'no-cache, only-if-cached' }, 200],
  [`/ipfs/${leaf}/x?format=raw`, {}, 404],
  [`/ipfs/${leaf.toUpperCase()}?format=raw`, {}, 400],
  ['/ipfs/QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn?format=raw', {}, 400],
  ['/ipfs/bafkqaaa?format=car', {}, 404],
  ['/ipfs/bafkqabtimvwgy3yk?format=raw', {}, 400],
  ['/ipfs/', {}, 404],
  [`/ipns/${leaf}?format=raw`, {}, 404],
  [`/ipfs/${root}?format=car&car-version=2`, {}, 400],
  [`/ipfs/${root}?format=car&car-order=bfs`, {}, 400],
  [`/ipfs/${root}?format=car&car-order=unk`, {}, 200],
  [`/ipfs/${root}?format=car&car-dups=maybe`, {}, 400],
  [`/ipfs/${root}?format=car&entity-bytes=x`, {}, 400],
  [`/ipfs/${root}?format=car&dag-scope=entity&entity-bytes=5:2`, {}, 400],
  [`/ipfs/${root}?format=car&dag-scope=entity&entity-bytes=-2:-5`, {}, 400],
  [`/ipfs/${root}?format=car`, { Range: 'bytes=0-1' }, 200],
]
for (const [target, headers, status] of REQUESTS) {
  test(`${target.replace(leaf, 'LEAF').replace(root, 'ROOT')} ${JSON.stringify(headers)} -> ${status}`, async () => {
    const { app, log } = testGateway([mod251])
    const response = await app.request(ORIGIN + target, { headers })
    assert.equal(response.status, status)
    if (status >= 400) assert.equal(response.headers.get('cache-control'), 'no-store')
    assert.equal(response.headers.get('content-encoding'), null)
    await response.arrayBuffer()
    assert.deepEqual(log.lines, [])
  })
}

test('a name for the download is taken only if it can stand between quotes', async () => {
  const { app } = testGateway([mod251])
  const disposition = async (query: string) =>
    (await app.request(`${ORIGIN}/ipfs/${leaf}?${query}`, { method: 'HEAD' })).headers.get(
      'content-disposition',
    )
  assert.equal(await disposition('format=raw'), `attachment; filename="${leaf}.bin"`)
  assert.equal(await disposition('format=car'), `attachment; filename="${leaf}.car"`)
  assert.equal(await disposition('format=raw&filename=a.bin'), 'attachment; filename="a.bin"')
  assert.equal(await disposition('format=raw&filename=a"%3bb'), `attachment; filename="${leaf}.bin"`)
})

/** Offset in MiB of each block's bytes, -1 for the root. */
const ENTITY_BYTES: [range: string, leaves: number[]][] = [
  ['0:*', [0, 1, 2, 3]],
  ['0:0', [0]],
  ['0:1048575', [0]],
  ['0:1048576', [0, 1]],
  ['1048576:2097151', [1]],
  ['-1:*', [3]],
  ['-8:*', [2, 3]],
  ['-8:-8', [2]],
  ['0:-1', [0, 1, 2, 3]],
  ['-99999999:*', [0, 1, 2, 3]],
  ['3145735:*', []],
  ['99999999:*', []],
  ['0:99999999', [0, 1, 2, 3]],
]
for (const [range, leaves] of ENTITY_BYTES) {
  test(`entity-bytes=${range} is the root and leaves ${leaves.join(', ') || 'none'}`, async () => {
    const { app } = testGateway([mod251])
    const target = `/ipfs/${root}?format=car&dag-scope=entity&entity-bytes=${range}`
    const blocks = await carBlocksOf(await app.request(ORIGIN + target))
    const expected = leaves.map((i) => rawCid(mod251.plan.leaves.subarray(i * 32, i * 32 + 32)).toString())
    assert.deepEqual(blocks, [root, ...expected])
  })
}

test('without dups each block goes out once, with dups as often as it stands in the NAR', async () => {
  const nar = testNar(new Uint8Array(4 * MIB))
  const { app } = testGateway([nar])
  const zero = rawCid(nar.plan.leaves.subarray(0, 32)).toString()
  const top = nar.plan.root.toString()
  const blocksWith = async (dups: string) =>
    carBlocksOf(await app.request(`${ORIGIN}/ipfs/${top}?format=car&car-dups=${dups}`))
  assert.deepEqual(await blocksWith('n'), [top, zero])
  assert.deepEqual(await blocksWith('y'), [top, zero, zero, zero, zero])
})

test('any NAR comes back whole from its CAR', async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 0, max: 5 * MIB }), async (size) => {
      const nar = testNar(pattern(size))
      const { app } = testGateway([nar])
      const response = await app.request(`${ORIGIN}/ipfs/${nar.plan.root.toString()}?format=car&car-dups=y`)
      const car = await readCar(response.body ?? chunked(new Uint8Array()))
      const leaves: Uint8Array[] = []
      for await (const { cid, bytes } of car.blocks) if (cid.code === 0x55) leaves.push(bytes)
      assert.ok(Buffer.concat(leaves).equals(nar.bytes))
    }),
    { numRuns: 10 },
  )
})

const emptyDisk = { get: () => Promise.resolve(undefined), lend: () => Promise.resolve(undefined) }

test('what the index promises and the disk does not have is a 404 for GET', async () => {
  const blocks = testBlocks([mod251])
  const { app } = testGateway([mod251], { ...blocks, ...emptyDisk })
  for (const format of ['raw', 'car']) {
    const response = await app.request(`${ORIGIN}/ipfs/${root}?format=${format}`)
    assert.equal(response.status, 404, format)
  }
})

test('a CAR whose next block is gone fails there', async () => {
  const blocks = testBlocks([mod251])
  blocks.blocks.delete(rawCid(mod251.plan.leaves.subarray(64, 96)).toString())
  const { app, log } = testGateway([mod251], blocks)
  const response = await app.request(`${ORIGIN}/ipfs/${root}?format=car`)
  assert.equal(response.status, 200)
  await assert.rejects(response.arrayBuffer(), { name: 'BlockUnavailableError' })
  assert.equal(log.lines.length, 1)
})

test('on a socket such a CAR is cut before the chunk that would end it', async (t) => {
  const blocks = testBlocks([mod251])
  blocks.blocks.delete(rawCid(mod251.plan.leaves.subarray(64, 96)).toString())
  const { port } = await serve(t, testGateway([mod251], blocks).app)
  const response = await exchange(t, port, getRequest(port, `/ipfs/${root}?format=car`))
  assert.equal(statusOf(response), 200)
  assert.match(response, /\r\nTransfer-Encoding: chunked\r\n/)
  assert.ok(!response.endsWith('\r\n0\r\n\r\n'))
  const whole = await serve(t, testGateway([mod251]).app)
  assert.ok(
    (await exchange(t, whole.port, getRequest(whole.port, `/ipfs/${root}?format=car`))).endsWith(
      '\r\n0\r\n\r\n',
    ),
  )
})

test('a node inside a tree is given alone, and not walked', async () => {
  const inner = nodeCid(createHash('sha256').update('inner').digest())
  const blocks = testBlocks([])
  blocks.blocks.set(inner.toString(), Buffer.from('inner'))
  const { app } = testGateway([], blocks)
  const statusOf = async (query: string) =>
    (await app.request(`${ORIGIN}/ipfs/${inner.toString()}?${query}`)).status
  assert.equal(await statusOf('format=raw'), 200)
  assert.equal(await statusOf('format=car&dag-scope=block'), 200)
  assert.equal(await statusOf('format=car'), 404)
})

test('a fault of ours is a 500 for peers, who keep scores, and one line in the log', async () => {
  const blocks = testBlocks([mod251])
  const { app, log } = testGateway([mod251], {
    ...blocks,
    lend: () => Promise.reject(new Error('EIO /var/lib')),
  })
  const response = await app.request(`${ORIGIN}/ipfs/${leaf}?format=raw`)
  assert.equal(response.status, 500)
  assert.equal(await response.text(), 'internal error\n')
  assert.equal(log.lines.length, 1)
})

async function carBlocksOf(response: Response): Promise<string[]> {
  const car = await readCar(response.body ?? chunked(new Uint8Array()))
  const cids: string[] = []
  for await (const { cid } of car.blocks) cids.push(cid.toString())
  return cids
}

async function* chunked(bytes: Uint8Array): AsyncGenerator<Uint8Array, void, undefined> {
  yield bytes
}

test('a lent block is given back only when the socket has it, whatever the pace of the readers', async (t) => {
  const nar = testNar(pattern(4 * MIB))
  const { app } = testGateway([nar])
  const { port } = await serve(t, app)
  const leaves = Array.from({ length: 4 }, (_, i) => rawCid(nar.plan.leaves.subarray(i * 32, i * 32 + 32)))
  const reads = Array.from({ length: 24 }, async (_, i) => {
    const cid = leaves[i % leaves.length]
    const response = await fetch(`http://127.0.0.1:${port}/ipfs/${cid?.toString()}?format=raw`)
    const hash = createHash('sha256')
    for await (const bytes of (response.body ?? []) as AsyncIterable<Uint8Array>) {
      // Every other one reads slowly, so that its bytes lie in the socket for long.
      if (i % 2 === 0) await new Promise((resolve) => setTimeout(resolve, 2))
      hash.update(bytes)
    }
    assert.deepEqual(hash.digest(), Buffer.from(cid?.multihash.digest ?? []))
  })
  await Promise.all(reads)
})
