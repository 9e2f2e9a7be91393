import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { hashPartOf, isHashPart } from '../../src/nix/store-path.ts'
import { openLocalStore } from '../../src/store/local-store.ts'
import { storeNarInfos } from '../../src/store/narinfo-source.ts'
import { recordingLog } from '../kit/log.ts'
import { skipWithoutNix } from '../kit/nix.ts'
import { realStore } from './real-store.ts'

const options = { signal: AbortSignal.timeout(60_000) }

test(
  'what a real Nix registered is told, what it did not is a miss',
  { skip: skipWithoutNix() },
  async (t) => {
    const real = await realStore(t)
    const file = join(real.sources, 'hello')
    await writeFile(file, 'hello')
    const path = real.add(file)
    const store = openLocalStore({ storeDir: '/nix/store', root: real.root }, { log: recordingLog() })
    t.after(() => store.close())
    const source = storeNarInfos(store)
    const told = await source.lookup(hashPartOf(path), options)
    assert.equal(told?.info.storePath, path)
    assert.equal(told.info.narSize, store.pathInfo(hashPartOf(path))?.narSize)
    const other = '0'.repeat(32)
    assert.ok(isHashPart(other))
    assert.equal(await source.lookup(other, options), undefined)

    const db = new DatabaseSync(real.database)
    db.exec('UPDATE ValidPaths SET narSize = NULL')
    db.close()
    assert.equal(await source.lookup(hashPartOf(path), options), undefined)
  },
)
