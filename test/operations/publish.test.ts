import assert from 'node:assert/strict'
import { it } from 'node:test'
import { publishRequest } from '../../src/operations/publish.ts'
import { formatNarInfo } from '../../src/nix/narinfo.ts'
import { hashPartOf } from '../../src/nix/store-path.ts'
import { createUpstream } from '../../src/upstream/upstream.ts'
import { STORE_DIR } from '../nix/genuine.ts'
import { noise, options, planOf } from '../spool/kit.ts'
import { narInfoOf, signed, signer } from '../substitute/kit.ts'
import { body, serveCache } from '../upstream/cache-server.ts'
import { freshHosts } from '../upstream/hosts.ts'
import { narOf, publishing } from '../publish/kit.ts'

it('publishes from a cache over HTTP: its connections are closed when the last NAR is here', async (t) => {
  const node = await publishing(t)
  const nar = narOf(noise(100_000))
  const info = signed({ ...narInfoOf(planOf(nar)), references: [], signatures: [] }, signer)
  const hashPart = hashPartOf(info.storePath)
  const text = formatNarInfo({ ...info, url: 'nar/x.nar', compression: 'none' }, STORE_DIR)
  const server = await serveCache(t, { [`/${hashPart}.narinfo`]: body(text), '/nar/x.nar': body(nar) })
  let closed = false
  const events = await Array.fromAsync(
    publishRequest(
      { feed: node.feed.name, dryRun: false, from: server.url.href, paths: [hashPart] },
      {
        publisher: node.publisher,
        feeds: new Map([[node.feed.name, node.feed]]),
        store: undefined,
        openCache(url) {
          const cache = createUpstream({ url, storeDir: STORE_DIR }, freshHosts())
          const close = async (): Promise<void> => {
            closed = true
            await cache.close()
          }
          return { ...cache, close }
        },
      },
      { storeDir: STORE_DIR },
      options,
    ),
  )
  assert.deepEqual(events.at(-1), { kind: 'done', feed: node.feed.name, added: 1, size: 1 })
  assert.ok(closed)
})
