import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { MultiaddrConnection } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import { lanGate } from '../../src/swarm/address-gate.ts'

const ID = '12D3KooWGRUaHmMMbtLXFBgYkFrZsLYpHZhjwWGHE9v2tXkRXSGX'
const NAMED = [`/ip4/8.8.8.8/tcp/6279/p2p/${ID}`, `/dns/peer.example.org/tcp/6279/p2p/${ID}`]
const gate = lanGate(new Set(NAMED))

const ADDRESSES: [address: string, inLan: boolean][] = [
  ['/ip4/192.168.1.2/tcp/6279', true],
  ['/ip4/127.0.0.1/tcp/6279', true],
  ['/ip4/100.64.0.9/tcp/6279', true],
  ['/ip6/fd00::1/tcp/6279', true],
  ['/ip6zone/eth0/ip6/fe80::1/tcp/6279', true],
  [`/ip4/10.0.0.2/tcp/6279/p2p/${ID}`, true],
  ['/ip4/1.1.1.1/tcp/6279', false],
  ['/ip6/2a04:4e42::1/tcp/6279', false],
  ['/ip6/::ffff:1.1.1.1/tcp/6279', false],
  ['/dns4/router.lan/tcp/6279', false],
  [`/dnsaddr/example.org/p2p/${ID}`, false],
  [`/ip4/8.8.8.8/tcp/6279`, false],
]

describe('in a LAN', () => {
  for (const [address, inLan] of ADDRESSES) {
    it(`${address} ${inLan ? 'comes in and is dialled' : 'neither comes in nor is dialled'}`, () => {
      const remoteAddr = multiaddr(address)
      assert.equal(gate.denyInboundConnection?.({ remoteAddr } as MultiaddrConnection), !inLan)
      assert.equal(gate.denyDialMultiaddr?.(remoteAddr), !inLan)
    })
  }
  it('what the user named is dialled, wherever it is', () => {
    for (const address of NAMED) assert.equal(gate.denyDialMultiaddr?.(multiaddr(address)), false)
  })
})
