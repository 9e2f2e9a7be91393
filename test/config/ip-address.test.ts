import assert from 'node:assert/strict'
import { test } from 'node:test'
import { hostKey, isLanAddress, isLoopbackUrl, isPrivateAddress } from '../../src/config/ip-address.ts'

const PRIVATE = [
  '0.0.0.0',
  '10.1.2.3',
  '100.64.0.1',
  '127.0.0.1',
  '169.254.169.254',
  '172.31.255.255',
  '192.168.0.1',
  '224.0.0.1',
  '255.255.255.255',
  '::',
  '::1',
  '::ffff:127.0.0.1',
  '::ffff:a9fe:a9fe',
  '64:ff9b::a9fe:a9fe',
  'fd00::1',
  'fe80::1',
  '[::1]',
]
for (const address of PRIVATE) {
  test(`private: ${address}`, () => assert.equal(isPrivateAddress(address), true))
}
for (const address of [
  '1.1.1.1',
  '100.63.255.255',
  '172.32.0.1',
  '::ffff:8.8.8.8',
  '2a04:4e42::729',
  '[2606:4700::1]',
]) {
  test(`public: ${address}`, () => assert.equal(isPrivateAddress(address), false))
}

const LAN = [
  '10.1.2.3',
  '100.64.0.1',
  '100.127.255.255',
  '127.0.0.1',
  '169.254.1.1',
  '172.16.0.1',
  '192.168.178.20',
  '::1',
  '::ffff:192.168.1.2',
  '::ffff:a01:203',
  'fd12:3456::1',
  'fe80::1',
  'fe80::1%eth0',
]
for (const address of LAN) {
  test(`in a LAN: ${address}`, () => assert.equal(isLanAddress(address), true))
}
for (const address of [
  '0.0.0.0',
  '1.1.1.1',
  '100.128.0.1',
  '172.32.0.1',
  '192.169.0.1',
  '224.0.0.251',
  '::',
  '::ffff:8.8.8.8',
  '64:ff9b::a01:203',
  '2a04:4e42::729',
  'ff02::fb',
]) {
  test(`in no LAN: ${address}`, () => assert.equal(isLanAddress(address), false))
}

const HOSTS: [address: string, key: string][] = [
  ['192.168.1.2', '192.168.1.2'],
  ['::ffff:192.168.1.2', '192.168.1.2'],
  ['8.8.8.8', '8.8.8.8'],
  ['fd12::1', 'fd12::1'],
  ['fe80::1%eth0', 'fe80::1'],
  ['2a04:4e42:1:2:3:4:5:6', '2a04:4e42:1:2::/64'],
  ['2a04:4e42:1:2::6', '2a04:4e42:1:2::/64'],
  ['2a04:4e42::729', '2a04:4e42:0:0::/64'],
  ['2a04::3:4:5:6:7:8', '2a04:0:3:4::/64'],
  ['2a04:1:2:3:4:5:6::', '2a04:1:2:3::/64'],
]
for (const [address, key] of HOSTS) {
  test(`one machine: ${address} is ${key}`, () => assert.equal(hostKey(address), key))
}

const LOOPBACK: [host: string, is: boolean][] = [
  ['127.0.0.1', true],
  ['127.8.9.10', true],
  ['127.1', true],
  ['[::1]', true],
  ['[::ffff:127.0.0.1]', true],
  ['localhost', true],
  ['LocalHost.', true],
  ['cache.localhost', true],
  ['notlocalhost', false],
  ['localhost.example', false],
  ['127.example', false],
  ['10.0.0.1', false],
  ['0.0.0.0', false],
  ['[fe80::1]', false],
  ['[::2]', false],
]
for (const [host, is] of LOOPBACK) {
  test(`${is ? '' : 'not '}on loopback: ${host}`, () =>
    assert.equal(isLoopbackUrl(new URL(`http://${host}:1/`)), is))
}
