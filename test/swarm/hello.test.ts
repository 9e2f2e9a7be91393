import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HELLO_MAX_BYTES } from '../../src/limits.ts'
import { formatHello, HelloFormatError, parseHello } from '../../src/swarm/hello.ts'

const HELLO = { version: 1, http: 6278, storeDir: '/nix/store' } as const
const line = (value: unknown): Uint8Array => Buffer.from(`${JSON.stringify(value)}\n`)

test('a hello is one line of JSON', () => {
  assert.equal(
    Buffer.from(formatHello(HELLO)).toString(),
    '{"version":1,"http":6278,"storeDir":"/nix/store"}\n',
  )
  assert.deepEqual(parseHello(formatHello(HELLO)), HELLO)
})

test('what a later narswarm adds is skipped', () => {
  assert.deepEqual(parseHello(line({ ...HELLO, zstd: true })), HELLO)
})

const REFUSED: Record<string, Uint8Array> = {
  nothing: Buffer.alloc(0),
  'an empty line': Buffer.from('\n'),
  'a line without its end': Buffer.from(JSON.stringify(HELLO)),
  'two lines': Buffer.concat([line(HELLO), line(HELLO)]),
  'what is no UTF-8': Buffer.from([0x7b, 0xff, 0x7d, 0x0a]),
  'a list': line([]),
  null: line(null),
  'another version': line({ ...HELLO, version: 2 }),
  'no port': line({ version: 1, storeDir: '/nix/store' }),
  'a port that is a text': line({ ...HELLO, http: '6278' }),
  'a port that is none': line({ ...HELLO, http: 65_536 }),
  'half a port': line({ ...HELLO, http: 1.5 }),
  'a port below 0': line({ ...HELLO, http: -1 }),
  'a store directory that is relative': line({ ...HELLO, storeDir: 'nix/store' }),
  'a store directory with a way up': line({ ...HELLO, storeDir: '/nix/../store' }),
  'a store directory with a control character': line({ ...HELLO, storeDir: '/nix/\u001b[2Jstore' }),
  'a store directory that is long': line({ ...HELLO, storeDir: `/${'x'.repeat(255)}` }),
  'more than fits': line({ ...HELLO, more: 'x'.repeat(HELLO_MAX_BYTES) }),
  'a web page': Buffer.from('<html></html>\n'),
}
for (const [name, bytes] of Object.entries(REFUSED)) {
  test(`${name} is no hello`, () => {
    assert.throws(() => parseHello(bytes), HelloFormatError)
  })
}
