import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { createLine } from '../../bench/kit/line.ts'
import { listenOnLoopback } from '../e2e/kit/bad-server.ts'
import { openConsumer } from '../e2e/kit/consumer.ts'
import { startCountingProxy } from '../e2e/kit/counting-proxy.ts'
import type { CountingProxy } from '../e2e/kit/counting-proxy.ts'
import { addressesOf, startPublisher } from '../e2e/kit/narswarm.ts'
import { serveSlowly } from '../e2e/kit/slow-cache.ts'
import { openStage } from '../e2e/kit/stage.ts'
import { openMachineWith, orSkip, topOf } from './kit/generations.ts'
import { changedPaths } from './kit/installs.ts'
import { publishedPackages } from './kit/published.ts'
import { skipWithout } from './kit/skip.ts'

const LEAST_PACKAGES = 5
/** 8 Mbit/s, for all that comes to the machine. */
const LINE_BYTES_PER_S = 1_000_000
const LINE_BURST_MS = 2
/** Of what the upstream would have sent; what it sends until the relay takes over hangs on how quick this machine is. */
const MOST = 0.5
const FAST_BYTES_PER_S = 1_000_000_000
const TEST_MS = 1200_000
const skip = skipWithout(['apt-get', 'dpkg-deb'])

test(
  'newer versions that only an upstream has, by a relay, over a slow line',
  { skip, timeout: TEST_MS },
  async (t) => {
    const stage = await openStage(t, undefined, TEST_MS)
    const packages = await orSkip(t, publishedPackages(stage, LEAST_PACKAGES))
    if (packages === undefined) return
    const { publicKey, tops } = packages
    const cache = fileURLToPath(packages.cache)
    const upstream = await serveSlowly(stage, cache, FAST_BYTES_PER_S)
    const relay = await startPublisher(
      stage,
      'relay',
      {
        store_root: join(stage.dir, 'nowhere'),
        upstreams: [upstream.url],
        upgrade: { relay: true },
        spool: { max_size: '10GiB', min_free: '1MiB' },
      },
      [publicKey],
    )
    const { peerUrl } = await addressesOf(relay)
    const line = createLine(LINE_BYTES_PER_S, LINE_BURST_MS)
    const [slow, near] = await Promise.all(
      [upstream.url, peerUrl].map((url) =>
        startCountingProxy(stage, url, { listen: listenOnLoopback, line }),
      ),
    )
    assert.ok(slow && near)
    const nix = await openMachineWith(stage, 'machine', packages, ['before'])
    const consumer = await openConsumer(
      stage,
      {
        trust: { keys: [publicKey] },
        share: { keys: [publicKey] },
        upstreams: [slow.url],
        peers: { urls: [near.url] },
      },
      [],
      nix,
    )
    const { ok, stderr } = await consumer.realise([topOf(tops, 'after')], { url: consumer.url, publicKey })
    assert.ok(ok, stderr)
    await consumer.verify()
    const paths = changedPaths(nix, topOf(tops, 'before'), topOf(tops, 'after'))
    const packed = await Promise.all(paths.map(({ path }) => packedBytes(cache, path)))
    const whole = packed.reduce((sum, bytes) => sum + bytes, 0)
    const [bySlow, byRelay] = [carried(slow), carried(near)]
    t.diagnostic(`${whole} bytes in xz; ${bySlow} came from the upstream, ${byRelay} from the relay`)
    assert.ok(bySlow <= MOST * whole)
    // What the relay sends hangs on this machine, too: while it is too busy to read, the line seems quick, and blocks come raw.
    const { got } = (await consumer.narswarm.status()).blocks
    const { bytes = 0, wire_bytes: wire = 0 } = got.by_difference ?? {}
    t.diagnostic(`${bytes} of ${got.bytes} bytes from the relay as differences, which were ${wire}`)
    assert.ok(bytes > got.bytes / 2 && wire < bytes / 5)
    await consumer.narswarm.stop()
    await relay.stop()
  },
)

function carried({ requests }: CountingProxy): number {
  return requests.reduce((sum, { bytes }) => sum + bytes, 0)
}

/** Of a path's NAR, as it lies in the cache. */
async function packedBytes(cache: string, path: string): Promise<number> {
  const hashPart = path.replace('/nix/store/', '').slice(0, 32)
  const text = await readFile(join(cache, `${hashPart}.narinfo`), 'utf8')
  return Number(/^FileSize: ([0-9]+)$/m.exec(text)?.[1] ?? assert.fail(text))
}
