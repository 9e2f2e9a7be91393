import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import type { IncomingMessage, RequestListener } from 'node:http'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import type { TestContext } from 'node:test'
import { constants, zstdCompressSync } from 'node:zlib'
import { rawCid, sha256 } from '../../src/dag/cid.ts'
import { DECODING_MAX_COUNT } from '../../src/limits.ts'
import type { OldBlock } from '../../src/source.ts'
import { SourceFaultError, SourceLieError } from '../../src/source.ts'
import { createGatewaySource } from '../../src/swarm/gateway-source.ts'
import type { GatewaySource } from '../../src/swarm/gateway-source.ts'

const signal = new AbortController().signal
const noise = (seed: string, size = 300_000): Buffer =>
  createHash('shake256', { outputLength: size }).update(seed).digest()
const older = noise('older')
const block = Buffer.concat([older.subarray(0, 100_000), noise('new', 50), older.subarray(100_050)])
const cid = rawCid(sha256(block))
const RAW = { 'content-type': 'application/vnd.ipld.raw', vary: 'Available-Dictionary' }
const DCZ = { ...RAW, 'content-encoding': 'dcz' }
const MAGIC = Buffer.from('5e2a4d1820000000', 'hex')
const frameOf = (bytes: Uint8Array, dictionary: Uint8Array = older): Buffer =>
  zstdCompressSync(bytes, { dictionary })
const bodyOf = (frame: Uint8Array, digest: Uint8Array = sha256(older)): Buffer =>
  Buffer.concat([MAGIC, digest, frame])
const body = bodyOf(frameOf(block))
const NAME = `:${Buffer.from(sha256(older)).toString('base64')}:`

/** One that is here; `bytes` undefined when it is gone. */
function oldBlock(bytes: Uint8Array | undefined = older) {
  const calls = { lent: 0, released: 0 }
  const old: OldBlock = {
    digest: sha256(older),
    lend() {
      calls.lent += 1
      return Promise.resolve(bytes && { bytes, release: () => void (calls.released += 1) })
    },
  }
  return { old: () => old, calls }
}

async function gateway(t: TestContext, answer: RequestListener, isKnown = true): Promise<GatewaySource> {
  const server = createServer(answer)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const source = createGatewaySource({ url: `http://127.0.0.1:${port}`, knowsDifferences: () => isKnown })
  t.after(async () => {
    await source.close()
    server.closeAllConnections()
    server.close()
  })
  return source
}

const codingsOf = ({ headers }: IncomingMessage): string =>
  [headers['accept-encoding'], headers['available-dictionary'] ?? '-'].join(' ')

test('a block is made of the older one and what differs; on the wire was only that', async (t) => {
  const source = await gateway(t, (request, response) => {
    assert.equal(codingsOf(request), `dcz, zstd ${NAME}`)
    response.writeHead(200, { ...DCZ, 'content-length': body.length }).end(body)
  })
  const { old, calls } = oldBlock()
  let told = 0
  let differences = 0
  const bytes = await source.fetch(
    {
      cid,
      maxBytes: block.length,
      into: new Uint8Array(block.length),
      onBytes: (count) => void (told += count),
      onPlaced: () => assert.fail('what differs is not the block'),
      old,
      onDifference: () => void (differences += 1),
    },
    { signal },
  )
  assert.ok(block.equals(bytes))
  assert.deepEqual([told, differences], [body.length, 1])
  assert.deepEqual(calls, { lent: 1, released: 1 })
})

test('the vector of docs/spec/dcz-leaves.md', async (t) => {
  const spec = await readFile(new URL('../../docs/spec/dcz-leaves.md', import.meta.url), 'utf8')
  const vector = Buffer.from(/^5e2a4d18[0-9a-f]+$/m.exec(spec)?.[0] ?? '', 'hex')
  const [wanted, dictionary] = ['Hello World, Hello World', 'Hello World'].map((text) => Buffer.from(text))
  assert.ok(wanted && dictionary)
  for (const bytes of [wanted, dictionary]) assert.ok(spec.includes(rawCid(sha256(bytes)).toString()))
  const source = await gateway(t, ({ headers }, response) => {
    assert.ok(spec.includes(`Available-Dictionary: ${String(headers['available-dictionary'])}`))
    response.writeHead(200, DCZ).end(vector)
  })
  const old = {
    digest: sha256(dictionary),
    lend: () => Promise.resolve({ bytes: dictionary, release: () => {} }),
  }
  const block = { cid: rawCid(sha256(wanted)), maxBytes: wanted.length + 40, old: () => old }
  assert.ok(wanted.equals(await source.fetch(block, { signal })))
})

test('who does not say that it knows differences is told of no older block', async (t) => {
  const asked: string[] = []
  let vary: string | undefined
  const source = await gateway(
    t,
    (request, response) => {
      asked.push(codingsOf(request))
      response.writeHead(200, { 'content-type': RAW['content-type'], ...(vary && { vary }) }).end(block)
    },
    false,
  )
  const { old, calls } = oldBlock()
  for (vary of [undefined, 'Accept, Available-Dictionary', undefined, 'Accept-Encoding']) {
    await source.fetch({ cid, maxBytes: block.length, old }, { signal })
  }
  assert.deepEqual(asked, ['zstd -', 'zstd -', `dcz, zstd ${NAME}`, 'zstd -'])
  assert.equal(calls.lent, 0, 'nothing was read that was not needed')
})

test('where there is no older block it is as before', async (t) => {
  const source = await gateway(t, (request, response) => {
    assert.equal(codingsOf(request), 'zstd -')
    response.writeHead(200, RAW).end(block)
  })
  for (const more of [{}, { old: () => undefined }]) {
    assert.ok(block.equals(await source.fetch({ cid, maxBytes: block.length, ...more }, { signal })))
  }
})

/** One whose link carries a body of 1 MiB in so many milliseconds by the clock; `asked` are the codings of each request. */
async function measured(
  t: TestContext,
  leafMs: number,
  config: Partial<Parameters<typeof createGatewaySource>[0]> = {},
) {
  const leaf = Buffer.alloc(1_048_576)
  const asked: string[] = []
  let now = 0
  const server = createServer((request, response) => {
    asked.push(codingsOf(request))
    // The difference where it is asked for, else as it is.
    if (request.headers['available-dictionary'] === undefined) response.writeHead(200, RAW).end(leaf)
    else response.writeHead(200, { ...DCZ, 'content-length': body.length }).end(body)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const source = createGatewaySource(
    { url: `http://127.0.0.1:${port}`, knowsDifferences: () => true, ...config },
    { clock: () => (now += leafMs) },
  )
  t.after(async () => {
    await source.close()
    server.closeAllConnections()
    server.close()
  })
  const whole = { cid, maxBytes: leaf.length }
  return {
    asked,
    fetch: (old?: () => OldBlock | undefined, until = signal) =>
      source.fetch(old === undefined ? whole : { ...whole, old }, { signal: until }),
    /** Until the link is measured. */
    measure: async () => {
      for (let at = 0; at < 9; at++) await source.fetch(whole, { signal })
    },
  }
}

test('over a quick link the older block is not named', async (t) => {
  // 350 MB/s.
  const { asked, fetch, measure } = await measured(t, 3)
  await fetch(oldBlock().old)
  await measure()
  await fetch(oldBlock().old)
  assert.equal(asked[0], `dcz, zstd ${NAME}`)
  assert.equal(asked.at(-1), 'identity -')
})

test('on loopback blocks come as they are, and by difference where there is an older one, until the link proves slow', async (t) => {
  // 20 MB/s.
  const { asked, fetch, measure } = await measured(t, 52, { isOnLoopback: true })
  await fetch(oldBlock().old)
  await fetch()
  assert.deepEqual(asked, [`dcz, zstd ${NAME}`, 'identity -'])
  await measure()
  assert.equal(asked.at(-1), 'zstd -')
})

test('on loopback, once it has proved quick, the older block is not named any more', async (t) => {
  const { asked, fetch, measure } = await measured(t, 3, { isOnLoopback: true })
  await measure()
  await fetch(oldBlock().old)
  assert.deepEqual(new Set(asked), new Set(['identity -']))
})

const BUSY: [title: string, leafMs: number | undefined, next: string][] = [
  ['of a link that nobody has measured it is', undefined, `dcz, zstd ${NAME}`],
  ['of a link of 20 MB/s it is', 52, `dcz, zstd ${NAME}`],
  ['of a link of 100 MB/s it is not', 10, 'identity -'],
]
for (const [title, leafMs, next] of BUSY) {
  test(`with as many blocks being decoded as may be, the next one is asked for coded? ${title}`, async (t) => {
    const { asked, fetch, measure } = await measured(t, leafMs ?? 1)
    if (leafMs !== undefined) await measure()
    const { promise: mayGoOn, resolve: goOn } = Promise.withResolvers<void>()
    const { promise: allBusy, resolve: onAllBusy } = Promise.withResolvers<void>()
    let [lent, most] = [0, 0]
    const old: OldBlock = {
      digest: sha256(older),
      async lend() {
        lent += 1
        most = Math.max(most, lent)
        if (lent === DECODING_MAX_COUNT) onAllBusy()
        await mayGoOn
        return { bytes: older, release: () => void (lent -= 1) }
      },
    }
    const fetches = Array.from({ length: DECODING_MAX_COUNT }, () => fetch(() => old))
    await allBusy
    const last = fetch(() => old)
    await setImmediate()
    goOn()
    await Promise.all([...fetches, last])
    assert.equal(asked.at(-1), next)
    assert.equal(most, DECODING_MAX_COUNT, 'no more are decoded at once')
  })
}

test('who leaves while a block waits for its turn to be decoded is not waited for, and takes nobody else’s turn', async (t) => {
  const { fetch } = await measured(t, 1)
  const { promise: mayGoOn, resolve: goOn } = Promise.withResolvers<void>()
  const { promise: allBusy, resolve: onAllBusy } = Promise.withResolvers<void>()
  let lent = 0
  const old: OldBlock = {
    digest: sha256(older),
    async lend() {
      if (++lent === DECODING_MAX_COUNT) onAllBusy()
      await mayGoOn
      return { bytes: older, release: () => {} }
    },
  }
  const fetches = Array.from({ length: DECODING_MAX_COUNT }, () => fetch(() => old))
  await allBusy
  const leaving = new AbortController()
  const left = fetch(() => old, leaving.signal)
  leaving.abort(new Error('gone'))
  await assert.rejects(left, /gone/)
  goOn()
  await Promise.all(fetches)
  assert.ok(block.equals(await fetch(() => old)))
})

const GONE: [title: string, bytes: Uint8Array | undefined][] = [
  ['gone', undefined],
  ['like a trained dictionary', Buffer.concat([Buffer.from('37a430ec', 'hex'), older])],
]
for (const [title, bytes] of GONE) {
  test(`an older block that proves ${title} blames nobody: the block is asked for without it`, async (t) => {
    const asked: string[] = []
    const source = await gateway(t, (request, response) => {
      asked.push(codingsOf(request))
      if (asked.length === 1) response.writeHead(200, DCZ).end(body)
      else response.writeHead(200, RAW).end(block)
    })
    const { old, calls } = oldBlock(bytes)
    // An explicit undefined is the default.
    if (bytes === undefined) Object.assign(old(), { lend: () => Promise.resolve(undefined) })
    assert.ok(block.equals(await source.fetch({ cid, maxBytes: block.length, old }, { signal })))
    assert.deepEqual(asked, [`dcz, zstd ${NAME}`, 'zstd -'])
    assert.equal(calls.lent, calls.released)
  })
}

const bomb = zstdCompressSync(Buffer.alloc(200_000_000), { dictionary: older })
/** All of them with status 200, the type of a block and Content-Encoding dcz. */
const HOSTILE: {
  title: string
  body: Uint8Array
  says: RegExp
  error?: new (...args: never[]) => Error
  withoutLength?: true
}[] = [
  {
    title: 'the header of another dictionary',
    body: bodyOf(frameOf(block), sha256(block)),
    says: /expected the header of the dictionary/,
  },
  {
    title: 'another magic number',
    body: Buffer.concat([Buffer.from('502a4d1820000000', 'hex'), sha256(older), frameOf(block)]),
    says: /expected the header of the dictionary/,
  },
  {
    title: 'no header',
    body: frameOf(block),
    says: /expected the header of the dictionary|40 bytes of header/,
  },
  { title: 'nothing', body: Buffer.alloc(0), says: /expected 40 bytes of header, got 0/ },
  { title: 'half a header', body: body.subarray(0, 20), says: /expected 40 bytes of header, got 20/ },
  {
    title: 'half a header of a body without a length',
    body: body.subarray(0, 20),
    says: /expected 40 bytes of header/,
    error: SourceFaultError,
    withoutLength: true,
  },
  { title: 'a header alone', body: body.subarray(0, 40), says: /the frame ends in the middle/ },
  {
    title: 'a frame that ends in the middle',
    body: body.subarray(0, -3),
    says: /the frame ends in the middle/,
  },
  {
    title: 'a frame that ends in the middle of a body without a length',
    body: body.subarray(0, -3),
    says: /the frame ends in the middle/,
    error: SourceFaultError,
    withoutLength: true,
  },
  { title: 'a bomb', body: bodyOf(bomb), says: /expected at most 300000 bytes out of it, got more/ },
  {
    title: 'a bomb that does not tell its size',
    body: bodyOf(
      zstdCompressSync(Buffer.alloc(200_000_000), {
        dictionary: older,
        params: { [constants.ZSTD_c_contentSizeFlag]: 0 },
      }),
    ),
    says: /expected at most 300000 bytes out of it, got more/,
  },
  {
    title: 'one byte more than the block',
    body: bodyOf(frameOf(Buffer.concat([block, Buffer.from('x')]))),
    says: /expected at most 300000 bytes out of it, got more/,
  },
  {
    title: 'bytes after the frame',
    body: Buffer.concat([body, Buffer.from('x')]),
    says: /expected one frame, got bytes after it/,
  },
  {
    title: 'two frames',
    body: bodyOf(Buffer.concat([frameOf(block.subarray(0, 1000)), frameOf(block.subarray(1000))])),
    says: /expected one frame, got bytes after it/,
  },
  {
    title: 'a second header',
    body: Buffer.concat([body.subarray(0, 40), body]),
    says: /expected one frame, got bytes after it/,
  },
  {
    title: 'a window of 2 GiB',
    body: bodyOf(Buffer.from('28b52ffd00a8010000', 'hex')),
    says: /zstd: .*memory/i,
  },
  {
    title: 'the id of a trained dictionary',
    body: bodyOf(Buffer.from('28b52ffd21070100000000', 'hex')),
    says: /Dictionary mismatch/,
  },
  { title: 'no zstd', body: bodyOf(noise('rubbish', 1000)), says: /zstd: / },
  {
    title: 'more bytes than the block has',
    body: bodyOf(noise('much', block.length)),
    says: /expected at most 300000 bytes, got Content-Length/,
  },
]
for (const { title, body: sent, says, error = SourceLieError, withoutLength } of HOSTILE) {
  test(`refused, by difference: ${title}`, async (t) => {
    const source = await gateway(t, (_, response) => {
      response.writeHead(200, withoutLength ? DCZ : { ...DCZ, 'content-length': sent.length }).end(sent)
    })
    const { old, calls } = oldBlock()
    const onDifference = (): void => assert.fail('it is none')
    await assert.rejects(
      source.fetch({ cid, maxBytes: block.length, old, onDifference }, { signal }),
      (thrown) => {
        assert.ok(thrown instanceof error, String(thrown))
        assert.match(thrown.message, says)
        return true
      },
    )
    assert.equal(calls.lent, calls.released)
  })
}

test('a difference that nobody asked for is refused', async (t) => {
  const source = await gateway(t, (_, response) => response.writeHead(200, DCZ).end(body))
  await assert.rejects(source.fetch({ cid, maxBytes: block.length }, { signal }), SourceFaultError)
})

test('what was coded with another dictionary is an error, or other bytes, which the CID tells', async (t) => {
  const source = await gateway(t, (_, response) => {
    response.writeHead(200, DCZ).end(bodyOf(frameOf(block, noise('another'))))
  })
  const { old } = oldBlock()
  try {
    const bytes = await source.fetch({ cid, maxBytes: block.length, old }, { signal })
    assert.notDeepEqual(sha256(bytes), cid.multihash.digest)
  } catch (error) {
    assert.ok(error instanceof SourceLieError, String(error))
  }
})

test('who leaves while the older block is read is not waited for', async (t) => {
  const source = await gateway(t, (_, response) => response.writeHead(200, DCZ).end(body))
  const leaving = new AbortController()
  const old: OldBlock = {
    digest: sha256(older),
    async lend(options) {
      await setImmediate()
      leaving.abort(new Error('gone'))
      options.signal.throwIfAborted()
      return assert.fail()
    },
  }
  await assert.rejects(
    source.fetch({ cid, maxBytes: block.length, old: () => old }, { signal: leaving.signal }),
    /gone/,
  )
})
