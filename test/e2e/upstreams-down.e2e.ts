import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { createServer as createSilentServer, type AddressInfo, type Server } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { test } from 'node:test'
import { formatPublicKey } from '../../src/nix/key.ts'
import { formatNarInfo } from '../../src/nix/narinfo.ts'
import { hashPartOf } from '../../src/nix/store-path.ts'
import { STORE_DIR } from '../nix/genuine.ts'
import { noise, planOf } from '../spool/kit.ts'
import { narInfoOf, signer } from '../substitute/kit.ts'
import { startNarswarm } from './kit/narswarm.ts'
import { openStage } from './kit/stage.ts'

async function listening(server: Server, port = 0): Promise<URL> {
  await new Promise<void>((resolve) => {
    server.listen(port, '127.0.0.1', resolve)
  })
  return new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`)
}

test('narswarm starts with every upstream down, answers 404, and uses the one that comes back', async (t) => {
  const stage = await openStage(t)
  const info = narInfoOf(planOf(noise(1_000)))
  const text = formatNarInfo(info, STORE_DIR)
  const path = `${hashPartOf(info.storePath)}.narinfo`

  const silent = createSilentServer((socket) => socket.on('error', () => {}).resume())
  const silentUrl = await listening(silent)
  stage.onEnd(async () => void silent.close())
  const cache = createServer((request, response) => {
    const body = { [`/${path}`]: text, '/nix-cache-info': `StoreDir: ${STORE_DIR}\nPriority: 40\n` }[
      request.url ?? ''
    ]
    response.writeHead(body === undefined ? 404 : 200).end(body)
  })
  const url = await listening(cache)
  await new Promise((resolve) => cache.close(resolve))

  const narswarm = await startNarswarm(stage, 'A', {
    upstreams: [url.href, silentUrl.href],
    trust: { keys: [formatPublicKey(signer.publicKey)] },
  })
  const ask = async (): Promise<number> => {
    const { cache: ours } = await narswarm.status()
    const response = await fetch(new URL(path, ours.url), { signal: stage.signal })
    await response.arrayBuffer()
    return response.status
  }
  const stateOf = async (): Promise<string[]> => (await narswarm.status()).upstreams.map(({ state }) => state)
  for (let asked = 0; (await stateOf()).includes('ok'); asked++) {
    assert.ok(asked < 10)
    assert.equal(await ask(), 404)
  }
  const { upstreams } = await narswarm.status()
  assert.deepEqual(
    upstreams.map(({ from }) => from),
    ['file', 'file'],
  )
  assert.match(upstreams[0]?.last_error ?? '', /ECONNREFUSED/)
  assert.match(upstreams[1]?.last_error ?? '', /no answer within/)

  await listening(cache, Number(url.port))
  stage.onEnd(async () => void cache.close())
  while ((await ask()) !== 200) await sleep(100, undefined, { signal: stage.signal })
  assert.equal((await stateOf())[0], 'ok')
  const told = narswarm.log().filter((line) => line.includes(`host=${url.origin}`))
  assert.equal(told.length, 2, told.join('\n'))
  await narswarm.stop()
})
