import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createListing, ListingError } from '../../src/nix/listing.ts'
import { LOG_MAX_BYTES } from '../../src/limits.ts'
import type { FileSource } from '../../src/http/passed-files.ts'
import { SourceFaultError } from '../../src/source.ts'
import { HASH_PART, ORIGIN, pattern, testCache, testNar } from './kit.ts'

const nar = testNar(pattern(3_000))
const LS = `/${HASH_PART}.ls`
const OTHER_LS = LS.replace('7', '8')
const DRV = '7c5zrpajq5ydlg2zbbnfs1l4lwbxsdqq-gtk+-2.24.drv'
const LOG = `log/${DRV}`
const ID = `sha256:${'ba7816bf8f01cfea'.repeat(4)}!out`
const DOI = `realisations/${ID}.doi`
const TRACE = `build-trace-v2/${DRV}/out.doi`
const BUILD_ID = '4f'.repeat(20)
const DEBUG = `debuginfo/${BUILD_ID}.debug`
const MEMBER = `lib/debug/.build-id/4f/${'4f'.repeat(19)}.debug`
const SIG = `a-1:${Buffer.alloc(64).toString('base64')}`
const OUT_PATH = '7c5zrpajq5ydlg2zbbnfs1l4lwbxsdqq-foo'
const REALISATION = JSON.stringify({
  dependentRealisations: { [ID]: OUT_PATH },
  id: ID,
  outPath: OUT_PATH,
  signatures: [SIG],
})
const BUILD_TRACE = JSON.stringify({
  outPath: OUT_PATH,
  signatures: [{ keyName: 'a-1', sig: SIG.slice(4) }],
})
const LISTING = '{"version":1,"root":{"type":"regular","size":0,"narOffset":96}}'
const debugInfo = (name: string, member = MEMBER): string =>
  JSON.stringify({ archive: `../nar/${name}`, member })

type Give = (
  name: string,
  signal: AbortSignal,
) => string | Uint8Array | undefined | Promise<string | undefined>

/** What an upstream gives for a name, and what it was asked for. */
function upstream(give: Give): FileSource & { readonly names: string[] } {
  const names: string[] = []
  return {
    id: 'upstream:test',
    names,
    async file(name, { signal }) {
      names.push(name)
      const found = await give(name, signal)
      return found === undefined ? undefined : { bytes: Buffer.from(found) }
    },
  }
}

const has = (files: Record<string, string | Uint8Array>) => upstream((name) => files[name])

async function ask(path: string, upstreams: readonly FileSource[], init: RequestInit = {}) {
  const cache = testCache(nar, { upstreams })
  const response = await cache.app.request(`${ORIGIN}/${path}`, init)
  return { ...cache, response, text: await response.text() }
}

const PASSED: [path: string, name: string, body: string, type: string][] = [
  [LOG, LOG, 'building\n', 'text/plain; charset=utf-8'],
  [LOG.replace('+', '%2B'), LOG, 'building\n', 'text/plain; charset=utf-8'],
  [`${LOG}?name=../x`, LOG, 'building\n', 'text/plain; charset=utf-8'],
  [DOI, DOI, REALISATION, 'application/json'],
  [DOI.replace('!', '%21').replace(':', '%3A'), DOI, REALISATION, 'application/json'],
  [TRACE, TRACE, BUILD_TRACE, 'application/json'],
  [`${HASH_PART}.ls`, `${HASH_PART}.ls`, LISTING, 'application/json'],
]
for (const [path, name, body, type] of PASSED) {
  test(`${path} is passed on as it is, and kept by nobody`, async () => {
    const empty = has({})
    const second = has({ [name]: body })
    const { response, text } = await ask(path, [empty, second], {
      headers: { 'Accept-Encoding': 'br, zstd', 'If-None-Match': '*', Range: 'bytes=0-0' },
    })
    assert.deepEqual([empty.names, second.names], [[name], [name]])
    assert.equal(response.status, 200)
    assert.equal(text, body)
    assert.equal(response.headers.get('content-type'), type)
    assert.equal(response.headers.get('content-length'), String(body.length))
    assert.equal(response.headers.get('cache-control'), 'no-store')
    assert.equal(response.headers.get('content-encoding'), null)
    assert.equal(response.headers.get('x-content-type-options'), 'nosniff')
  })
}

/** Nobody is asked. */
const NO_NAMES = [
  'log/',
  'log/x.drv',
  `log/${DRV}.bz2`,
  `log/${DRV.slice(0, -4)}`,
  `log/${DRV}/x`,
  `log//${DRV}`,
  `log/..%2f${DRV}`,
  `log/${DRV.replace('-', '%2F')}`,
  `log/${DRV.replace('gtk', '%252e')}`,
  `log/${DRV.replace('gtk', 'é')}`,
  `log/${DRV.replace('2.24', 'x'.repeat(220))}`,
  `LOG/${DRV}`,
  DOI.replace('.doi', ''),
  DOI.replace('ba78', 'BA78'),
  DOI.replace('ba78', ''),
  DOI.replace('sha256', 'sha1'),
  DOI.replace('!out', '!'),
  DOI.replace('!out', ''),
  DOI.replace('!out', '!o%2Fut'),
  DOI.replace('!out', '!o%20ut'),
  TRACE.replace('-v2', ''),
  TRACE.replace('-v2', '-v3'),
  TRACE.replace('out.doi', '.doi'),
  TRACE.replace('out.doi', '..doi'),
  TRACE.replace('.drv/', '/'),
  TRACE.replace('/out', '/%2e%2e%2fout'),
  DEBUG.replace('4f', ''),
  DEBUG.replace('4f', '4F'),
  DEBUG.replace('.debug', '.debug.xz'),
  'debuginfo/',
]
for (const path of NO_NAMES) {
  test(`${path.slice(0, 90)} is a miss that no upstream hears of`, async () => {
    const source = upstream(() => 'x')
    const { response, asked } = await ask(path, [source])
    assert.equal(response.status, 404)
    assert.equal(response.headers.get('cache-control'), 'no-store')
    assert.deepEqual([source.names, asked], [[], []])
  })
}

const without = (key: string): string => JSON.stringify({ ...JSON.parse(REALISATION), [key]: undefined })
const given = (key: string, value: unknown): string =>
  JSON.stringify({ ...JSON.parse(REALISATION), [key]: value })

/** Each of the first upstream; the second has the right one. */
const UNFIT: [title: string, path: string, unfit: string | Uint8Array, fit: string][] = [
  ['HTML', DOI, '<html>', REALISATION],
  ['an empty file', DOI, '', REALISATION],
  ['a list', DOI, '[]', REALISATION],
  ['null', DOI, 'null', REALISATION],
  ['one of another output', DOI, given('id', ID.replace('!out', '!dev')), REALISATION],
  ['one without a path', DOI, without('outPath'), REALISATION],
  ['one with a path in a folder', DOI, given('outPath', `/nix/store/${OUT_PATH}`), REALISATION],
  ['one with half a signature', DOI, given('signatures', ['a-1:AAAA']), REALISATION],
  ['one with a signature that is no text', DOI, given('signatures', [1]), REALISATION],
  ['one with a list of dependencies', DOI, given('dependentRealisations', []), REALISATION],
  ['bytes that are no text', DOI, Buffer.from(REALISATION.replace('foo', '\xff'), 'latin1'), REALISATION],
  ['a realisation of the old kind', TRACE, REALISATION, BUILD_TRACE],
  ['no object', TRACE, '"x"', BUILD_TRACE],
  ['JSON of no listing', `${HASH_PART}.ls`, '{}', LISTING],
  ['half a listing', `${HASH_PART}.ls`, LISTING.slice(0, -1), LISTING],
  ['a listing of another version', `${HASH_PART}.ls`, LISTING.replace('1', '2'), LISTING],
]
for (const [title, path, unfit, fit] of UNFIT) {
  test(`${path.slice(0, 20)}: ${title} is not passed on, and the next upstream is asked`, async () => {
    const both = await ask(path, [has({ [path]: unfit }), has({ [path]: fit })])
    assert.equal(both.text, fit)
    const one = await ask(path, [has({ [path]: unfit })])
    assert.equal(one.response.status, 404)
    assert.deepEqual(
      one.log.lines.map(({ level }) => level),
      ['debug'],
    )
  })
}

test('an upstream that fails, or breaks its word about the size, is like one that has nothing', async () => {
  const fails = upstream(() => Promise.reject(new SourceFaultError('upstream:test', 'status 500')))
  const floods = has({ [LOG]: Buffer.alloc(LOG_MAX_BYTES + 1) })
  assert.equal((await ask(LOG, [fails, floods, has({ [LOG]: 'built' })])).text, 'built')
  assert.equal((await ask(LOG, [fails, floods])).response.status, 404)
  assert.equal((await ask(LOG, [])).response.status, 404)
})

test('an upstream that never answers is a miss in bounded time', async (t) => {
  const abort = new AbortController()
  t.mock.method(AbortSignal, 'timeout', () => abort.signal)
  const asked = Promise.withResolvers<void>()
  const silent = upstream(() => {
    asked.resolve()
    return new Promise<undefined>(() => {})
  })
  const answer = ask(DOI, [silent, has({ [DOI]: REALISATION })])
  await asked.promise
  abort.abort(new DOMException('late', 'TimeoutError'))
  assert.equal((await answer).response.status, 404)
})

test('HEAD of what is passed on has the head of its GET', async () => {
  const source = has({ [LOG]: 'built' })
  const get = await ask(LOG, [source])
  const head = await ask(LOG, [source], { method: 'HEAD' })
  assert.deepEqual([head.response.status, head.text], [200, ''])
  assert.deepEqual([...head.response.headers], [...get.response.headers])
})

test('a listing is made from the NAR that is here, and no upstream is asked', async () => {
  const made = createListing()
  made.add({ type: 'symlink', path: [], target: Buffer.from('x') })
  const source = has({ [LS.slice(1)]: LISTING })
  const { app } = testCache(nar, {
    upstreams: [source],
    lister: { list: () => Promise.resolve(made.finish()) },
  })
  const response = await app.request(ORIGIN + LS)
  assert.equal(response.headers.get('content-type'), 'application/json')
  assert.match(response.headers.get('cache-control') ?? '', /^public/)
  assert.equal(await response.text(), '{"version":1,"root":{"type":"symlink","target":"x"}}')
  assert.deepEqual(source.names, [])
})

test('what is in a NAR that is here and cannot be said is said by nobody', async () => {
  const source = has({ [LS.slice(1)]: LISTING })
  const list = () => Promise.reject(new ListingError('name is not UTF-8'))
  const { app, log } = testCache(nar, { upstreams: [source], lister: { list } })
  assert.equal((await app.request(ORIGIN + LS)).status, 404)
  assert.deepEqual(source.names, [])
  assert.deepEqual(
    log.lines.map(({ level }) => level),
    ['debug'],
  )
})

test('of a path that nobody trusted signed there is no listing', async () => {
  const source = has({ [OTHER_LS.slice(1)]: LISTING })
  const { response, asked } = await ask(OTHER_LS.slice(1), [source])
  assert.equal(response.status, 404)
  assert.deepEqual(source.names, [])
  assert.deepEqual(asked, [`narinfo ${HASH_PART.replace('7', '8')}`])
})

/** ADR 013. */
const NARS = [`${nar.info.narHash}.nar`, `${nar.info.narHash}.nar.zst`]
for (const name of NARS) {
  test(`debuginfo that points to ${name.slice(52)} of a NAR given here points to ours`, async () => {
    const { response, text, app } = await ask(DEBUG, [has({ [DEBUG]: debugInfo(name) })])
    assert.equal(response.headers.get('content-type'), 'application/json')
    const { archive, member } = JSON.parse(text) as { archive: string; member: string }
    assert.equal(member, MEMBER)
    const { pathname } = new URL(archive, `${ORIGIN}/${DEBUG}`)
    assert.equal((await app.request(ORIGIN + pathname, { method: 'HEAD' })).status, 200)
  })
}
const UNKNOWN = nar.info.narHash.replace(/.$/, (last) => (last === '0' ? '1' : '0'))
for (const [title, told] of [
  ['a NAR that this cache never gave', debugInfo(`${UNKNOWN}.nar.xz`)],
  ['a NAR of a name of its own', debugInfo('hello.nar.xz')],
  ['elsewhere', JSON.stringify({ archive: `https://evil/nar/${nar.info.narHash}.nar`, member: MEMBER })],
  ['another member', debugInfo(`${nar.info.narHash}.nar`, 'bin/sh')],
  ['nothing', 'null'],
  ['no JSON', '<html>'],
] as const) {
  test(`debuginfo that points to ${title} is a miss`, async () => {
    assert.equal((await ask(DEBUG, [has({ [DEBUG]: told })])).response.status, 404)
  })
}
