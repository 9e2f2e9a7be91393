import assert from 'node:assert/strict'
import { lstat, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import type { StatusDocument } from '../../src/operations/status.ts'
import { skipWithoutNix } from '../kit/nix.ts'
import { openBuilder } from './kit/builder.ts'
import { addressesOf, startPublisher } from './kit/narswarm.ts'
import { openNixMachine } from './kit/nix-machine.ts'
import { openStage } from './kit/stage.ts'

/** Of the store that is shared; the promise is about 2 GB, which take a few minutes. */
const DISK_BYTES = Number(process.env['NARSWARM_E2E_DISK_BYTES'] ?? 200_000_000)
const ALLOWED_SHARE = 0.001

test(
  'a store is shared as it lies: next to no disk, nothing published, and what was installed is shared on',
  { skip: skipWithoutNix() },
  async (t) => {
    const stage = await openStage(t)
    const builder = await openBuilder(stage, 'disk', ['--arg', 'diskBytes', String(DISK_BYTES)])
    const { top, closure, publicKey } = builder
    const storeBytes = closure.reduce((sum, { narSize }) => sum + narSize, 0)
    const isIndexed = ({ store }: StatusDocument): boolean =>
      store?.to_go === 0 && store.indexed >= closure.length
    const shareAt = (rate: string) => ({ share: { keys: [publicKey], index_rate: rate } })

    // What it takes without any of it: the second start has what the first one made.
    const first = await startPublisher(stage, 'A', { store_root: builder.root, ...shareAt('0') }, [publicKey])
    await first.stop()
    await first.start()
    const before = await bytesBelow(first.stateDir)
    await first.stop()
    await first.start(shareAt('2GiB'))
    const { store: indexed } = await first.until(isIndexed)
    assert.equal(indexed?.indexed, closure.length)

    // The binary cache and the blocks of A, and nobody else.
    const machine = await openNixMachine(stage, 'machine-b')
    const { peerUrl } = await addressesOf(first)
    const second = await startPublisher(
      stage,
      'B',
      {
        store_root: machine.root,
        upstreams: [peerUrl],
        peers: { urls: [peerUrl] },
        ...shareAt('0'),
      },
      [publicKey],
    )
    const { cache } = await second.status()
    const { ok, stderr } = await machine.realise([top], { url: cache.url, publicKey })
    assert.ok(ok, stderr)
    assert.deepEqual(machine.validPaths(), closure)

    const added = (await bytesBelow(first.stateDir)) - before
    t.diagnostic(`sharing ${storeBytes} bytes of a store added ${added} bytes`)
    assert.ok(added < ALLOWED_SHARE * storeBytes, `${added} bytes for a store of ${storeBytes}`)
    await first.stop()

    // A is gone, B's spool is empty, nothing of it was indexed ahead: C has it all the same.
    await second.until(({ spool }) => spool.nars === 0 && spool.parts === 0)
    const spooled = await readdir(join(second.stateDir, 'spool'), { recursive: true })
    assert.deepEqual(
      spooled.filter((name) => /\.(?:nar|part)$/.test(name)),
      [],
    )
    const third = await openNixMachine(stage, 'machine-c')
    const { peerUrl: secondUrl } = await addressesOf(second)
    const consumer = await startPublisher(
      stage,
      'C',
      { store_root: third.root, upstreams: [secondUrl], peers: { urls: [secondUrl] } },
      [publicKey],
    )
    const from = { url: (await consumer.status()).cache.url, publicKey }
    const installed = await third.realise([top], from)
    assert.ok(installed.ok, installed.stderr)
    await third.verify()
    assert.deepEqual(third.validPaths(), closure)
    await second.stop()
    await consumer.stop()
  },
)

/** On the disk, not as told by their lengths. */
async function bytesBelow(dir: string): Promise<number> {
  let bytes = 0
  for (const name of await readdir(dir, { recursive: true })) {
    bytes += (await lstat(join(dir, name))).blocks * 512
  }
  return bytes
}
