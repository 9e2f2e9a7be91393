import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  checkListenAddress,
  checkPeerAddress,
  formatHostPort,
  isOurs,
  parseHostPort,
} from '../../src/config/address.ts'
import { isLoopbackAddress } from '../../src/config/ip-address.ts'

for (const [text, host, port] of [
  ['127.0.0.1:6277', '127.0.0.1', 6277],
  ['0.0.0.0:0', '0.0.0.0', 0],
  ['[::1]:65535', '::1', 65_535],
] as const) {
  void test(`an address: ${text}`, () => {
    assert.deepEqual(parseHostPort(text), { host, port })
    assert.equal(formatHostPort({ host, port }), text)
  })
}

for (const text of [
  '',
  '6277',
  ':6277',
  '127.0.0.1',
  '127.0.0.1:',
  '127.0.0.1:65536',
  '127.0.0.1:-1',
  '127.0.0.1:0x10',
  '127.0.0.256:1',
  '127.1:1',
  '::1:6277',
  '[127.0.0.1]:6277',
  '[::1',
  'localhost:6277',
  ' 127.0.0.1:1',
  'http://127.0.0.1:1',
]) {
  void test(`no address: ${JSON.stringify(text)}`, () => {
    assert.throws(() => parseHostPort(text), /expected an IP address and port/)
  })
}

for (const [host, expected] of [
  ['127.0.0.1', true],
  ['127.255.0.1', true],
  ['::1', true],
  ['128.0.0.1', false],
  ['0.0.0.0', false],
  ['::', false],
] as const) {
  void test(`${host} is ${expected ? '' : 'no '}loopback`, () =>
    assert.equal(isLoopbackAddress(host), expected))
}

const OWN = { host: '127.0.0.1', port: 6277 }
for (const [url, expected] of [
  ['http://127.0.0.1:6277', true],
  ['http://127.0.0.2:6277/', true],
  ['http://localhost:6277/x', true],
  ['http://[::1]:6277', true],
  ['http://127.0.0.1:6278', false],
  ['http://127.0.0.1', false],
  ['http://10.0.0.1:6277', false],
  ['https://cache.nixos.org', false],
  ['file:///srv/cache', false],
] as const) {
  void test(`${url} is ${expected ? '' : 'not '}ourselves`, () =>
    assert.equal(isOurs(new URL(url), OWN), expected))
}

void test('ourselves at the port that the scheme implies', () => {
  assert.equal(isOurs(new URL('http://localhost'), { host: '127.0.0.1', port: 80 }), true)
})

for (const text of ['/ip4/0.0.0.0/tcp/6279', '/ip6/::/tcp/0', '/ip4/192.168.1.2/tcp/65535']) {
  void test(`a listen address: ${text}`, () => assert.equal(checkListenAddress(text), text))
}
for (const text of [
  '',
  '/',
  '0.0.0.0:6279',
  '/ip4/0.0.0.0',
  '/ip4/::/tcp/1',
  '/ip6/0.0.0.0/tcp/1',
  '/ip4/0.0.0.0/tcp/65536',
  '/ip4/0.0.0.0/udp/1/quic-v1',
  '/dns/host/tcp/1',
  '/ip4/0.0.0.0/tcp/1/ws',
]) {
  void test(`no listen address: ${JSON.stringify(text)}`, () => {
    assert.throws(
      () => checkListenAddress(text),
      /expected a multiaddr such as \/ip4\/0\.0\.0\.0\/tcp\/6279, got/,
    )
  })
}

const PEER = 'p2p/12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5'
for (const text of [
  `/ip4/10.0.0.2/tcp/6279/${PEER}`,
  `/dns/build.example.org/tcp/6279/${PEER}`,
  `/ip6/::1/tcp/1/${PEER}`,
]) {
  void test(`a peer's address: ${text}`, () => assert.equal(checkPeerAddress(text), text))
}
for (const text of [
  '/ip4/10.0.0.2/tcp/6279',
  `/ip4/10.0.0.2/tcp/0/${PEER}`,
  `/ip4/host/tcp/6279/${PEER}`,
  `/dns/a host/tcp/6279/${PEER}`,
  `/${PEER}`,
  '/ip4/10.0.0.2/tcp/6279/p2p/',
  `/ip4/10.0.0.2/tcp/6279/${PEER}/p2p-circuit`,
]) {
  void test(`no peer's address: ${text}`, () => {
    assert.throws(() => checkPeerAddress(text), /expected a multiaddr such as \/dns\/host\/tcp\/6279\/p2p/)
  })
}
