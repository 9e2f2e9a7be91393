import assert from 'node:assert/strict'
import type { LookupAddress } from 'node:dns'
import { test } from 'node:test'
import {
  checkLiteral,
  isPrivateHost,
  publicLookup,
  RedirectError,
  redirectTarget,
  type Lookup,
} from '../../src/upstream/redirect.ts'

const FOLLOWED: readonly [base: string, location: string, sameHost: boolean][] = [
  ['https://cache.example.org/', '/other/nar/x', true],
  ['http://127.0.0.1:80/', 'http://127.0.0.1/x', true],
  ['http://cache.example.org/', 'https://cache.example.org/x', true],
  ['https://cache.example.org/', 'https://s3.example.com/bucket/x?signature=1', false],
]
for (const [base, location, sameHost] of FOLLOWED) {
  void test(`followed: from ${base} to ${location}`, () => {
    const target = redirectTarget(new URL(base), new URL('nar/a.nar', base), location)
    assert.equal(target.url.href, new URL(location, base).href)
    assert.equal(target.sameHost, sameHost)
  })
}

const REFUSED: readonly [base: string, location: string][] = [
  ['https://cache.example.org/', 'http://cache.example.org/x'],
  ['https://cache.example.org/', 'http://169.254.169.254/latest/meta-data'],
  ['http://cache.example.org/', 'http://other.example.org/x'],
  ['http://cache.example.org/', 'https://other.example.org/x'],
  ['http://127.0.0.1:5000/', 'http://127.0.0.1:6379/'],
  ['https://cache.example.org/', 'file:///etc/passwd'],
  ['https://cache.example.org/', 'https://user:password@cache.example.org/'],
  ['https://cache.example.org/', 'https://'],
]
for (const [base, location] of REFUSED) {
  void test(`refused: from ${base} to ${location}`, () => {
    assert.throws(() => redirectTarget(new URL(base), new URL('x', base), location), RedirectError)
  })
}

void test('the message of a refused redirect does not hold the query', () => {
  const base = new URL('https://cache.example.org/')
  assert.throws(
    () => redirectTarget(base, base, 'http://other.example.org/x?X-Amz-Signature=secret'),
    (error) => error instanceof RedirectError && !error.message.includes('secret'),
  )
})

for (const href of ['https://169.254.169.254/', 'https://[::1]/', 'https://2130706433/', 'https://0x7f.1/']) {
  void test(`a redirect to the address itself is refused: ${href}`, () => {
    assert.throws(() => checkLiteral(new URL(href)), /private address/)
  })
}

void test('a redirect to a public address or a name passes', () => {
  checkLiteral(new URL('https://1.1.1.1/'))
  checkLiteral(new URL('https://cache.example.org/'))
})

/** A DNS of two names. */
const names: Record<string, LookupAddress[]> = {
  'public.test': [{ address: '1.1.1.1', family: 4 }],
  'mixed.test': [
    { address: '1.1.1.1', family: 4 },
    { address: '169.254.169.254', family: 4 },
  ],
}
const lookup: Lookup = (name, _options, callback) => {
  const found = names[name]
  if (found === undefined) callback(Object.assign(new Error('ENOTFOUND'), { code: 'ENOTFOUND' }), [])
  else callback(null, found)
}

function resolved(name: string, all: boolean): Promise<unknown> {
  const { promise, resolve, reject } = Promise.withResolvers<unknown>()
  publicLookup(lookup)(name, { all }, (error, address) => (error === null ? resolve(address) : reject(error)))
  return promise
}

void test('names of public addresses are looked up as ever', async () => {
  assert.deepEqual(await resolved('public.test', true), [{ address: '1.1.1.1', family: 4 }])
  assert.equal(await resolved('public.test', false), '1.1.1.1')
})

void test('a name with one private address among its answers is refused', async () => {
  await assert.rejects(
    resolved('mixed.test', true),
    /redirected to mixed\.test, whose address 169\.254\.169\.254/,
  )
  await assert.rejects(resolved('mixed.test', false), RedirectError)
})

void test('a name that does not exist fails as ever', async () => {
  await assert.rejects(resolved('nowhere.test', true), { code: 'ENOTFOUND' })
})

void test('whether a cache is in a private network', async () => {
  assert.equal(await isPrivateHost(new URL('http://10.0.0.2:8080/'), lookup), true)
  assert.equal(await isPrivateHost(new URL('http://mixed.test/'), lookup), true)
  assert.equal(await isPrivateHost(new URL('https://public.test/'), lookup), false)
  assert.equal(await isPrivateHost(new URL('https://nowhere.test/'), lookup), false)
})
