import assert from 'node:assert/strict'
import { test } from 'node:test'
import { encode } from 'dns-packet'
import * as fc from 'fast-check'
import {
  MDNS_ADVERT_ADDRESSES_COUNT,
  MDNS_ADVERTS_PER_PACKET_COUNT,
  MDNS_PACKET_MAX_BYTES,
} from '../../src/limits.ts'
import { formatAdvert, formatQuery, parsePacket } from '../../src/swarm/mdns-packet.ts'

const PEER = '12D3KooWGatU2NcRgWDLMqGxnvKYjAhFRMsvLTnuDiXZtUBKcpkM'
const SERVICE = '_narswarm._udp.local'
const at = (host: string, port = 6279): string =>
  `dnsaddr=/${host.includes(':') ? 'ip6' : 'ip4'}/${host}/tcp/${port}/p2p/${PEER}`

function txt(data: string | string[], { name = `x.${SERVICE}`, ttl = 120 } = {}): Buffer {
  return Buffer.from(encode({ type: 'response', answers: [{ name, type: 'TXT', ttl, data }] }))
}

test('what is formatted is parsed again', () => {
  assert.deepEqual(parsePacket(Buffer.from(formatQuery())), { kind: 'query' })
  const advert = {
    peerId: PEER,
    addresses: [
      { host: '10.0.0.2', port: 6279 },
      { host: 'fd00::2', port: 1 },
    ],
  }
  assert.deepEqual(parsePacket(Buffer.from(formatAdvert('a', advert))), {
    kind: 'adverts',
    adverts: [advert],
  })
})

test('a strange record does not take the good ones with it', () => {
  const strange = [
    '',
    'dnsaddr=',
    'dnsaddr=/ip4/10.0.0.3',
    'dnsaddr=/dns/example.org/tcp/6279/p2p/x',
    at('10.0.0.3').replace('dnsaddr=', ''),
    at('10.0.0.3', 65_536),
    at('10.0.0.3', 0),
    `${at('10.0.0.3')}/p2p-circuit`,
    at('10.0.0.3').replace('/tcp/', '/udp/'),
    at('10.0.0.3').replace('ip4', 'ip6zone/eth0/ip6'),
  ]
  assert.deepEqual(parsePacket(txt([...strange, at('10.0.0.2')])), {
    kind: 'adverts',
    adverts: [{ peerId: PEER, addresses: [{ host: '10.0.0.2', port: 6279 }] }],
  })
})

const NOTHING: Record<string, Buffer> = {
  'an empty packet': Buffer.alloc(0),
  'the label alone': Buffer.from('_narswarm'),
  'a farewell': txt(at('10.0.0.2'), { ttl: 0 }),
  'another service': txt(at('10.0.0.2'), { name: 'x._p2p._udp.local' }),
  'another service that only begins like ours': txt(at('10.0.0.2'), {
    name: 'x._narswarm._udp.local.example',
  }),
  'a question for another type': Buffer.from(
    encode({ type: 'query', questions: [{ name: SERVICE, type: 'A' }] }),
  ),
  'a packet that is too long': Buffer.concat([txt(at('10.0.0.2')), Buffer.alloc(MDNS_PACKET_MAX_BYTES)]),
  'a packet that is cut in a name': txt(at('10.0.0.2')).subarray(0, 30),
  'a name that points to itself': Buffer.concat([
    Buffer.from([0, 0, 0x84, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0xc0, 12]),
    Buffer.from('_narswarm'),
  ]),
}
for (const [name, packet] of Object.entries(NOTHING)) {
  test(`${name} says nothing`, () => {
    assert.equal(parsePacket(packet), undefined)
  })
}

test('one packet tells of few peers, and few addresses of each', () => {
  const ids = Array.from({ length: 40 }, (_, n) => `12D3KooW${String(n).padStart(44, 'a')}`)
  const data = ids.flatMap((id) => [at('10.0.0.2').replace(PEER, id), at('10.0.0.3').replace(PEER, id)])
  const said = parsePacket(txt(data))
  assert.equal(said?.kind === 'adverts' ? said.adverts.length : 0, MDNS_ADVERTS_PER_PACKET_COUNT)
  const many = parsePacket(txt(Array.from({ length: 100 }, (_, n) => at(`10.0.0.${n}`))))
  assert.equal(many?.kind === 'adverts' ? many.adverts[0]?.addresses.length : 0, MDNS_ADVERT_ADDRESSES_COUNT)
})

test('any bytes and any change of a good packet are parsed or refused, never thrown at', () => {
  const good = [Buffer.from(formatQuery()), txt([at('10.0.0.2'), at('fd00::2')])]
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      parsePacket(Buffer.concat([bytes, Buffer.from('_narswarm')]))
    }),
  )
  fc.assert(
    fc.property(fc.constantFrom(...good), fc.nat(), fc.nat(255), (packet, place, byte) => {
      const changed = Buffer.from(packet)
      changed[place % changed.length] = byte
      parsePacket(changed)
    }),
    { numRuns: 2_000 },
  )
})
