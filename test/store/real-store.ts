import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmod } from 'node:fs/promises'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { hashPartOf, parseStorePath } from '../../src/nix/store-path.ts'
import type { StorePath } from '../../src/nix/store-path.ts'
import { openLocalStore } from '../../src/store/local-store.ts'
import type { LocalStore } from '../../src/store/local-store.ts'
import type { PathInfo } from '../../src/store/path-info.ts'
import { recordingLog } from '../kit/log.ts'
import { tempDir } from '../kit/temp.ts'

const STORE_DIR = '/nix/store'

/** A row as `nix-store --load-db` takes it. Nix does not look whether the path is there. */
export interface Registration {
  path: StorePath
  deriver?: StorePath
  references: readonly StorePath[]
}

/** A store below a temporary root, filled by the real nix-store. */
export interface RealStore {
  /** For what is to be added. */
  readonly sources: string
  readonly root: string
  readonly database: string
  add(source: string): StorePath
  register(rows: readonly Registration[]): void
  /** Where the path is on disk. */
  physical(path: StorePath): string
  /** `nix-store --dump`. */
  dump(path: StorePath): Buffer
  /** Closed after the test. */
  open(): LocalStore & { readonly lines: ReturnType<typeof recordingLog>['lines'] }
}

export async function realStore(t: TestContext): Promise<RealStore> {
  const sources = await tempDir(t)
  const root = await tempDir(t)
  // Other users must get in: the traps of the database are about them.
  await chmod(root, 0o755)
  const nixStore = (args: readonly string[], input = ''): Buffer =>
    execFileSync('nix-store', ['--store', root, ...args], { input, maxBuffer: 64 * 2 ** 20 })
  nixStore(['--init'])
  const physical = (path: StorePath): string => join(root, STORE_DIR, path)
  return {
    sources,
    root,
    database: join(root, 'nix/var/nix/db/db.sqlite'),
    physical,
    add: (source) => parseStorePath(nixStore(['--add', source]).toString().trim(), STORE_DIR),
    register(rows) {
      const absolute = (path: StorePath): string => `${STORE_DIR}/${path}`
      const lines = rows.flatMap(({ path, deriver, references }) => [
        absolute(path),
        createHash('sha256').update(path).digest('hex'),
        '96',
        deriver === undefined ? '' : absolute(deriver),
        String(references.length),
        ...references.map(absolute),
      ])
      nixStore(['--load-db'], `${lines.join('\n')}\n`)
    },
    dump: (path) => execFileSync('nix-store', ['--dump', physical(path)], { maxBuffer: 64 * 2 ** 20 }),
    open() {
      const log = recordingLog()
      const store = openLocalStore({ storeDir: STORE_DIR, root }, { log })
      t.after(() => store.close())
      return { ...store, lines: log.lines }
    },
  }
}

/** The row of a path that must be there. */
export function infoOf(store: LocalStore, path: StorePath): PathInfo {
  const info = store.pathInfo(hashPartOf(path))
  if (info === undefined) throw new Error(`${path} is not valid`)
  return info
}

export async function bytesOf(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(chunks))
}
