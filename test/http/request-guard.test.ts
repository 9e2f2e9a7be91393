import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checkRequest } from '../../src/http/request-guard.ts'

const HOST = '127.0.0.1:6277'
const RULES = { hosts: ['127.0.0.1', 'localhost', '[::1]', 'cache.lan:80'] }

function statusOf(
  {
    target = '/nix-cache-info',
    method = 'GET',
    headers = ['Host', HOST],
  }: Partial<{
    target: string
    method: string
    headers: string[]
  }>,
  rules: Parameters<typeof checkRequest>[1] = RULES,
): number {
  return checkRequest({ method, target, rawHeaders: headers, localPort: 6277 }, rules)?.status ?? 200
}

const TARGETS: [target: string, status: number][] = [
  ['/nix-cache-info', 200],
  ['/log/7c5zrpajq5ydlg2zbbnfs1l4lwbxsdqq-gtk%2B-2.drv', 200],
  ['/ipfs/x?filename=a%2Fb..c', 200],
  // C1
  ['/nar/..%2f..%2fetc%2fpasswd', 404],
  ['/%2e%2e/etc/passwd', 404],
  ['/nar/%2e/x', 404],
  ['/../etc/passwd', 404],
  ['/nar/..', 404],
  ['/nar/a%5cb', 404],
  ['/nar/a\\b', 404],
  ['/nar/%00', 404],
  ['/nar/%0d%0a', 404],
  ['/nar/%ff', 404],
  ['/nar/%c0%af', 404],
  ['/nar/%ed%a0%80', 404],
  ['/nar/%', 404],
  ['/nar/%zz', 404],
  ['/nar/a b', 404],
  ['/#x', 404],
  // Decoded once: what is left is for the routes to miss.
  ['/%252e%252e/etc/passwd', 200],
  // C2
  ['http://127.0.0.1:6277/nix-cache-info', 400],
  ['HTTP://evil/x', 400],
  ['127.0.0.1:6277', 400],
  ['*', 400],
  ['', 400],
  ['//evil/nar/x', 200],
  // C6
  [`/${'x'.repeat(20_000)}`, 414],
]
for (const [target, status] of TARGETS) {
  test(`target ${JSON.stringify(target.slice(0, 60))} -> ${status}`, () => {
    assert.equal(statusOf({ target }), status)
  })
}

/** C3 and C4. */
const HOSTS: [title: string, headers: string[], status: number][] = [
  ['address and port', ['Host', HOST], 200],
  ['name and port', ['host', 'localhost:6277'], 200],
  ['IPv6 and port', ['HOST', '[::1]:6277'], 200],
  ['name with a port of its own', ['Host', 'cache.lan:80'], 200],
  ['none', [], 403],
  ['empty', ['Host', ''], 403],
  ['two', ['Host', HOST, 'Host', HOST], 403],
  ['two, one of them foreign', ['Host', HOST, 'host', 'evil'], 403],
  ['foreign', ['Host', 'evil:6277'], 403],
  ['foreign port', ['Host', '127.0.0.1:80'], 403],
  ['no port', ['Host', '127.0.0.1'], 403],
  ['word as port', ['Host', 'evil:port'], 403],
  ['ours as a label', ['Host', 'localhost.evil:6277'], 403],
  ['final dot', ['Host', '127.0.0.1.:6277'], 403],
  ['bare IPv6', ['Host', '::1'], 403],
  ['upper case', ['Host', 'LOCALHOST:6277'], 403],
  ['ours behind a comma', ['Host', `evil, ${HOST}`], 403],
  ['X-Forwarded-Host beside a foreign one', ['Host', 'evil:6277', 'X-Forwarded-Host', HOST], 403],
]
for (const [title, headers, status] of HOSTS) {
  test(`Host: ${title} -> ${status}`, () => {
    assert.equal(statusOf({ headers }), status)
  })
}

test('a listener for any Host still wants exactly one', () => {
  const any = { hosts: 'any' } as const
  assert.equal(statusOf({ headers: ['Host', '10.0.0.7:6278'] }, any), 200)
  assert.equal(statusOf({ headers: [] }, any), 403)
  assert.equal(statusOf({ headers: ['Host', 'a', 'Host', 'b'] }, any), 403)
})

/** C5. */
const SITES: [title: string, headers: string[], status: number][] = [
  ['Origin', ['Origin', `http://${HOST}`], 403],
  ['Origin null', ['origin', 'null'], 403],
  ['Sec-Fetch-Site: cross-site', ['Sec-Fetch-Site', 'cross-site'], 403],
  ['Sec-Fetch-Site: same-site', ['Sec-Fetch-Site', 'same-site'], 403],
  ['Sec-Fetch-Site twice', ['Sec-Fetch-Site', 'none', 'Sec-Fetch-Site', 'cross-site'], 403],
  ['Sec-Fetch-Site: none, typed into the browser', ['Sec-Fetch-Site', 'none'], 200],
  ['Sec-Fetch-Site: same-origin, a link on our page', ['Sec-Fetch-Site', 'same-origin'], 200],
  ['Referer from our page', ['Referer', `http://${HOST}/`], 200],
  ['Referer from elsewhere', ['Referer', 'http://evil/'], 403],
  ['Referer from another port', ['Referer', 'http://127.0.0.1:80/'], 403],
  ['Referer with our address as user', ['Referer', `http://${HOST}@evil/`], 403],
  ['Referer that is no URL', ['Referer', 'x'], 403],
]
for (const [title, headers, status] of SITES) {
  test(`${title} -> ${status}`, () => {
    assert.equal(statusOf({ headers: ['Host', HOST, ...headers] }), status)
    assert.equal(statusOf({ headers: ['Host', HOST, ...headers] }, { hosts: 'any' }), status)
  })
}

test('as many headers as Node keeps are refused, since there may be others that it dropped', () => {
  const headers = ['Host', HOST, ...Array.from({ length: 126 }, (_, i) => `x${i}`)]
  assert.equal(statusOf({ headers }), 431)
  assert.equal(statusOf({ headers: headers.slice(0, -2) }), 200)
})

/** C15. */
for (const method of ['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'TRACE', 'QUERY', 'get', '']) {
  test(`method ${JSON.stringify(method)} -> 405 with Allow`, () => {
    const answer = checkRequest({ method, target: '/', rawHeaders: ['Host', HOST], localPort: 6277 }, RULES)
    assert.equal(answer?.status, 405)
    assert.equal(answer?.headers['Allow'], 'GET, HEAD')
  })
}
