import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { formatNarInfo } from '../../src/nix/narinfo.ts'
import { judge } from './kit/judge.ts'
import type { Exchange, Subject } from './kit/judge.ts'
import { createRandom } from './kit/random.ts'
import { makeTruth, STORE_DIR } from './kit/world.ts'

const { key, path } = makeTruth(createRandom(1), 400_000)
const { nar } = path
const size = nar.bytes.length
const bounds = { narInfoMs: 11_000, headMs: 18_000, silenceMs: 40_000 }
const aboutNar: Subject = { kind: 'nar', nar }
const aboutInfo: Subject = { kind: 'narinfo', path }

const info = {
  storePath: path.storePath,
  url: `nar/${nar.narHash}.nar`,
  compression: 'none' as const,
  fileHash: nar.narHash,
  fileSize: size,
  narHash: nar.narHash,
  narSize: size,
  references: path.references,
  signatures: [path.signature],
}

function exchange(changes: Partial<Exchange>): Exchange {
  return {
    method: 'GET',
    target: '/',
    status: 200,
    headers: { 'content-length': String(size), etag: `"${nar.narHash}"` },
    body: Buffer.alloc(0),
    received: size,
    complete: true,
    aborted: false,
    headMs: 1,
    silenceMs: 0,
    undisturbed: true,
    ...changes,
  }
}
const narInfo = (changes: Partial<typeof info>): Exchange =>
  exchange({ body: Buffer.from(formatNarInfo({ ...info, ...changes }, STORE_DIR)) })
const part = (contentRange: string, changes: Partial<Exchange> = {}): Exchange =>
  exchange({
    status: 206,
    range: { first: 10, last: 19 },
    received: 10,
    headers: { 'content-length': '10', 'content-range': contentRange, etag: `"${nar.narHash}"` },
    ...changes,
  })

describe('what Nix may be told', () => {
  const allowed: Record<string, [string, Exchange, Subject]> = {
    'the true NAR': ['right', exchange({}), aboutNar],
    'a part of it': ['right', part(`bytes 10-19/${size}`), aboutNar],
    'the true narinfo': ['right', narInfo({}), aboutInfo],
    'true bytes, then a cut': ['cut', exchange({ complete: false, received: 10 }), aboutNar],
    'wrong bytes of a stream, cut before the proof': [
      'wrong, cut',
      exchange({ wrongAt: 3, complete: false, received: 1000 }),
      aboutNar,
    ],
    'a 404': ['miss', exchange({ status: 404 }), aboutNar],
    '416 past the end': ['empty', exchange({ status: 416, range: { first: size } }), aboutNar],
    'nothing while it is down': ['refused', exchange({ status: 0, undisturbed: false }), aboutNar],
    'a 400 to nonsense': ['empty', exchange({ status: 400 }), { kind: 'nonsense' }],
  }
  for (const [title, [outcome, one, about]] of Object.entries(allowed)) {
    it(title, () => assert.deepEqual(judge(one, about, key, bounds), { outcome }))
  }
})

describe('what Nix must never be told', () => {
  const forbidden: Record<string, [RegExp, Exchange, Subject]> = {
    'a 500': [/status 500/, exchange({ status: 500 }), aboutNar],
    'a 503 to nonsense': [/status 503/, exchange({ status: 503 }), { kind: 'nonsense' }],
    'a 429': [/status 429/, exchange({ status: 429 }), aboutInfo],
    'a 403': [/status 403/, exchange({ status: 403 }), aboutNar],
    'a wrong byte in a whole NAR': [/wrong byte at 3, whole/, exchange({ wrongAt: 3 }), aboutNar],
    'a wrong byte, and a cut within what is held back until the hash is proved': [
      /wrong byte at 3, cut after/,
      exchange({ wrongAt: 3, complete: false, received: size - 1000 }),
      aboutNar,
    ],
    'a short NAR that looks whole': [
      /Content-Length/,
      exchange({ received: 9, headers: { 'content-length': '9', etag: `"${nar.narHash}"` } }),
      aboutNar,
    ],
    'fewer bytes than were told': [/a complete body of 9 bytes/, exchange({ received: 9 }), aboutNar],
    'a part from elsewhere': [/Content-Range/, part(`bytes 0-9/${size}`), aboutNar],
    'a 206 that nobody asked for': [/206 without a Range/, exchange({ status: 206 }), aboutNar],
    'a 416 for bytes that there are': [/416/, exchange({ status: 416, range: { first: 1 } }), aboutNar],
    'another ETag': [/ETag/, exchange({ headers: { 'content-length': String(size) } }), aboutNar],
    'a Content-Encoding': [
      /Content-Encoding/,
      exchange({ headers: { 'content-encoding': 'gzip' } }),
      aboutNar,
    ],
    'a NAR that nobody has': [/nobody has/, exchange({}), { kind: 'nar', nar: undefined }],
    'a path that nobody has': [/nobody has/, narInfo({}), { kind: 'narinfo', path: undefined }],
    'a narinfo without signature': [/no signature/, narInfo({ signatures: [] }), aboutInfo],
    'a narinfo with another size': [/no signature/, narInfo({ narSize: size + 1 }), aboutInfo],
    'a narinfo with another URL': [/url /, narInfo({ url: 'nar/x.nar' }), aboutInfo],
    'a narinfo that is HTML': [/none/, exchange({ body: Buffer.from('<html>') }), aboutInfo],
    'nothing while it is up': [/no answer/, exchange({ status: 0 }), aboutNar],
    'a late head': [/head took/, exchange({ headMs: 11_001 }), aboutInfo],
    'a long silence': [/without a byte/, exchange({ silenceMs: 40_001 }), aboutNar],
  }
  for (const [title, [reason, one, about]] of Object.entries(forbidden)) {
    it(title, () => {
      const verdict = judge(one, about, key, bounds)
      assert.match('violation' in verdict ? verdict.violation : `allowed as ${verdict.outcome}`, reason)
    })
  }
})
