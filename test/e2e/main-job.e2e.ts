import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { formatPublicKey, formatSecretKey, generateSecretKey } from '../../src/nix/key.ts'
import { skipWithoutNix } from '../kit/nix.ts'
import { hasFeeds, publishFeed, startNarswarm } from './kit/narswarm.ts'
import { closureOf, openNixMachine } from './kit/nix-machine.ts'
import { openStage } from './kit/stage.ts'

const PACKAGES = fileURLToPath(new URL('./kit/packages.nix', import.meta.url))
const FEED = 'e2e.narswarm.invalid/main'

test('a real Nix installs what another machine built', { skip: skipWithoutNix() }, async (t) => {
  const stage = await openStage(t)
  const key = generateSecretKey('e2e-1', randomBytes)
  const publicKey = formatPublicKey(key.publicKey)
  const keyFile = join(stage.dir, 'secret-key')
  await writeFile(keyFile, `${formatSecretKey(key)}\n`, { mode: 0o600 })

  const builder = await openNixMachine(stage, 'builder')
  const top = await builder.build(PACKAGES, 'closure', ['--option', 'secret-key-files', keyFile])
  const closure = closureOf(builder.validPaths(), top)
  assert.ok(closure.length >= 20, `expected a closure of at least 20 paths, got ${closure.length}`)
  assert.ok(closure.every(({ sigs }) => sigs.startsWith('e2e-1:')))
  const bytes = closure.reduce((sum, { narSize }) => sum + narSize, 0)

  const publisher = await startNarswarm(stage, 'A', {
    profile: 'pool',
    store_root: builder.root,
    peer: { listen: '127.0.0.1:0' },
    swarm: { listen: ['/ip4/127.0.0.1/tcp/0'] },
    trust: { keys: [publicKey] },
    share: { keys: [publicKey] },
  })
  const { feed, size } = await publishFeed(publisher, FEED, top)
  assert.equal(size, closure.length)
  const { peer, swarm } = await publisher.status()
  const cache = join(stage.dir, 'cache')

  const ways = [
    { title: 'over bitswap alone', source: /^bitswap:/, settings: { peers: { addrs: swarm?.addrs }, feed: [feed] } },
    { title: 'over the HTTP gateway alone', source: /^http:/, settings: { peers: { urls: [peer?.url] }, feed: [feed] } },
    { title: 'from a folder cache as upstream alone', source: /^upstream:file:/, settings: { upstreams: [`file://${cache}`] } },
  ]
  for (const { title, source, settings } of ways) {
    await t.test(title, async (t) => {
      const stage = await openStage(t)
      // Level 0: what is tested is that we undo xz, not how well Nix does it.
      if ('upstreams' in settings) await builder.copyTo(`file://${cache}?compression=xz&compression-level=0`, [top])
      const machine = await openNixMachine(stage, 'machine')
      const consumer = await startNarswarm(stage, 'B', {
        profile: 'private',
        store_root: machine.root,
        trust: { keys: [publicKey] },
        ...settings,
      })
      const status = await consumer.until('feed' in settings ? hasFeeds(size) : () => true)

      const { ok, stderr } = await machine.realise([top], { url: status.cache.url, publicKey })
      assert.ok(ok, stderr)
      await machine.verify()
      assert.deepEqual(machine.validPaths(), closure)

      const { sources } = await consumer.status()
      assert.deepEqual(sources.map(({ id }) => source.test(id)), [true])
      assert.ok(sources.every((one) => one.bytes >= bytes && one.faults === 0 && one.lies === 0), JSON.stringify(sources))
      t.diagnostic(`${closure.length} paths, ${bytes} bytes; ${JSON.stringify(sources)}`)
      await consumer.stop()
    })
  }

  // No second copy of what the store has (P5).
  assert.deepEqual((await publisher.status()).spool, { nars: 0, bytes: 0 })
  await publisher.stop()
})
