import { randomBytes } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { parseCid } from '../../../src/dag/cid.ts'
import { parseFeedName } from '../../../src/feed/feed-name.ts'
import { createFeed, openPublisher } from '../../../src/feed/publisher.ts'
import type { NarInfo } from '../../../src/nix/narinfo.ts'
import { recordingLog } from '../../kit/log.ts'
import type { FollowedFeed } from './narswarm.ts'
import type { Stage } from './stage.ts'

/** A feed in a folder with one entry: this narinfo, all of it right and signed, and that CID, which no honest publisher tells. */
export async function makeLyingFeed(stage: Stage, info: NarInfo, cid: string): Promise<FollowedFeed> {
  const name = parseFeedName('lies.narswarm.invalid/main')
  const dir = join(stage.dir, 'lies')
  await mkdir(dir)
  const place = { name, dir, keysDir: join(stage.dir, 'lies-keys'), storeDir: '/nix/store' }
  const deps = { clock: Date.now, log: recordingLog(), randomBytes }
  const { rootKey } = await createFeed(place, deps)
  const publisher = await openPublisher(place, deps)
  const { storePath, narHash, narSize, references, signatures } = info
  const entry = { storePath, narHash, narSize, references, signatures, cid: parseCid(cid) }
  await publisher.append([{ kind: 'mapping', ...entry }], { signal: stage.signal })
  return { name, root_key: rootKey, sources: [pathToFileURL(dir).href] }
}
