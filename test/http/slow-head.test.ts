import assert from 'node:assert/strict'
import { test } from 'node:test'
import { pattern, rawClient, serve, statusOf, testCache, testNar } from './kit.ts'

/** Takes as long as HTTP_HEADERS_TIMEOUT_MS, hence a file of its own. Without the cut it would never end (C9). */
test('a head that drips, and a socket that says nothing, are cut', { timeout: 60_000 }, async (t) => {
  const { app, asked } = testCache(testNar(pattern(1000)))
  const { port } = await serve(t, app)
  const silent = await rawClient(t, port)
  const slow = await rawClient(t, port)
  slow.socket.write('GET /nix-cache-info HTTP/1.1\r\nX: ')
  const drip = setInterval(() => slow.socket.write('x'), 250)
  t.after(() => clearInterval(drip))
  assert.equal(statusOf(await slow.all), 408)
  await silent.all
  assert.deepEqual(asked, [])
})
