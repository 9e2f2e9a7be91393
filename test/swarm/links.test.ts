import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { NetworkInterfaceInfo } from 'node:os'
import { chooseLinks } from '../../src/swarm/links.ts'
import type { Interfaces } from '../../src/swarm/links.ts'

function info(cidr: string, internal = false): NetworkInterfaceInfo {
  const [address = ''] = cidr.split('/')
  const rest = { address, netmask: '', mac: '', internal, cidr }
  return address.includes(':') ? { ...rest, family: 'IPv6', scopeid: 2 } : { ...rest, family: 'IPv4' }
}

const INTERFACES: Interfaces = {
  lo: [info('127.0.0.1/8', true), info('::1/128', true)],
  eth0: [info('192.168.1.5/24'), info('fd00:1::5/64'), info('2a04:4e42::5/64'), info('fe80::5/64')],
  wlan0: [info('10.0.0.5/8')],
  ppp0: [info('8.8.8.8/32')],
}

const shown = (names?: string[]): [string, readonly string[], string | undefined, true | undefined][] =>
  chooseLinks(INTERFACES, names).map(({ name, addresses, ip4, ip6 }) => [name, addresses, ip4, ip6])

test('all interfaces but loopback are links, with their private addresses that need no zone', () => {
  assert.deepEqual(shown(), [
    ['eth0', ['192.168.1.5', 'fd00:1::5'], '192.168.1.5', true],
    ['wlan0', ['10.0.0.5'], '10.0.0.5', undefined],
    ['ppp0', [], '8.8.8.8', undefined],
  ])
})

test('those that are named are the only ones, loopback too', () => {
  assert.deepEqual(shown(['lo', 'eth9']), [['lo', ['127.0.0.1', '::1'], '127.0.0.1', true]])
})

for (const [address, has] of [
  ['192.168.1.77', true],
  ['192.168.2.77', false],
  ['10.0.0.5', false],
  ['fd00:1::77', true],
  ['fd00:2::77', false],
  ['2a04:4e42::77', false],
  ['fe80::77', false],
  ['fe80::77%eth0', false],
  ['::ffff:192.168.1.77', true],
  ['127.0.0.1', false],
  ['999.1.1.1', false],
  ['host', false],
  ['', false],
] as const) {
  test(`${address === '' ? 'nothing' : address} is ${has ? '' : 'not '}on the link of eth0`, () => {
    const [link] = chooseLinks(INTERFACES, ['eth0'])
    assert.equal(link?.has(address), has)
  })
}
