import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { createFeed, openPublisher } from '../../src/feed/publisher.ts'
import { parseFeedName } from '../../src/feed/feed-name.ts'
import { layoutNar } from '../../src/nix/nar-layout.ts'
import { trustedKeys } from '../../src/nix/key.ts'
import type { SecretKey } from '../../src/nix/key.ts'
import { parsePathPattern } from '../../src/nix/path-pattern.ts'
import { createPublisher } from '../../src/publish/publish.ts'
import type { Candidate } from '../../src/publish/candidates.ts'
import type { PublishItem } from '../../src/publish/publish.ts'
import { createSharePolicy } from '../../src/publish/share-policy.ts'
import type { SharePolicy } from '../../src/publish/share-policy.ts'
import type { LocalStore } from '../../src/store/local-store.ts'
import { tempDir } from '../kit/temp.ts'
import { STORE_DIR } from '../nix/genuine.ts'
import { fileOf, sliceBytes } from '../nix/nar-tree.ts'
import type { Contents } from '../nix/nar-tree.ts'
import { options } from '../spool/kit.ts'
import { engine, signer } from '../substitute/kit.ts'

/** A real NAR of one file. */
export function narOf(contents: Uint8Array): Buffer {
  const files: Contents = new Map()
  const layout = layoutNar(fileOf(files, contents, false))
  return sliceBytes(layout, files, { start: 0, end: layout.narSize })
}

/** What `key` signed may go, but for what is denied. */
export function sharePolicy(deny: readonly string[] = [], ...keys: SecretKey[]): SharePolicy {
  return createSharePolicy({
    keys: trustedKeys((keys.length === 0 ? [signer] : keys).map((key) => key.publicKey)),
    deny: deny.map(parsePathPattern),
    storeDir: STORE_DIR,
  })
}

/** A publisher over a real spool, index, table and feed. */
export async function publishing(t: TestContext, store?: LocalStore, deny: readonly string[] = []) {
  const node = await engine(t, store === undefined ? {} : { store })
  const root = await tempDir(t)
  const name = parseFeedName('example.org/packages')
  const place = { name, dir: join(root, 'feed'), keysDir: join(root, 'keys'), storeDir: STORE_DIR }
  const feedDeps = {
    clock: Date.now,
    log: node.log,
    randomBytes: (n: number) => crypto.getRandomValues(new Uint8Array(n)),
  }
  await createFeed(place, feedDeps)
  const feed = await openPublisher(place, feedDeps)
  const publisher = createPublisher(
    { policy: sharePolicy(deny), table: node.table, spool: node.spool, index: node.index, store },
    { storeDir: STORE_DIR },
  )
  const publish = (candidates: readonly Candidate[], dryRun = false): Promise<PublishItem[]> =>
    Array.fromAsync(publisher.publish(candidates, { feed, dryRun }, options))
  return { ...node, feed, publisher, publish }
}
