import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { setImmediate as turn, setTimeout as wait } from 'node:timers/promises'
import { test, type TestContext } from 'node:test'
import { RECEIVE_BUFFER_BYTES } from '../../src/limits.ts'
import { createReceivingConnector } from '../../src/upstream/receiving-socket.ts'
import { noise } from '../spool/kit.ts'

/** Both ends of a connection that the connector made. */
async function connected(t: TestContext): Promise<{ near: Socket; far: Socket }> {
  const server = createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const accepted = once(server, 'connection') as Promise<[Socket]>
  const port = String((server.address() as AddressInfo).port)
  const near = await new Promise<Socket>((resolve, reject) => {
    createReceivingConnector({})({ protocol: 'http:', hostname: '127.0.0.1', port }, (error, socket) => {
      if (socket === null) reject(error)
      else resolve(socket)
    })
  })
  const [far] = await accepted
  t.after(() => {
    near.destroy()
    far.destroy()
    server.close()
  })
  return { near, far }
}

void test('what nobody has read yet stays as it came, however much comes after it', async (t) => {
  const { near, far } = await connected(t)
  const bytes = noise(12 * 4_000)
  far.setNoDelay()
  near.read(0)
  for (let at = 0; at < bytes.length; at += 4_000) {
    far.write(bytes.subarray(at, at + 4_000))
    // Each comes alone, or all lie in one buffer.
    while (near.readableLength < at + 4_000) await turn()
  }
  assert.deepEqual(near.read(), bytes)
})

void test('two buffers do for as much as comes, when each is read at once', async (t) => {
  const { near, far } = await connected(t)
  const bytes = noise(20 * RECEIVE_BUFFER_BYTES + 5)
  const buffers = new Set<unknown>()
  const came: Buffer[] = []
  near.on('readable', () => {
    for (;;) {
      const chunk = near.read() as Buffer | null
      if (chunk === null) return
      buffers.add(chunk.buffer)
      came.push(Buffer.from(chunk))
    }
  })
  far.end(bytes)
  await once(near, 'end')
  assert.deepEqual(Buffer.concat(came), bytes)
  assert.equal(buffers.size, 2)
})

void test('one that does not read is not sent for ever', async (t) => {
  const { near, far } = await connected(t)
  near.read(0)
  while (far.write(Buffer.alloc(RECEIVE_BUFFER_BYTES)));
  await wait(100)
  assert.ok(near.readableLength <= 2 * RECEIVE_BUFFER_BYTES, `${near.readableLength} bytes are held`)
})
