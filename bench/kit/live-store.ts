/** A Nix store with a few paths made for the bench, all of them signed with a key of its own. */
import { createHash, randomBytes } from 'node:crypto'
import { chmod, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { formatPublicKey, formatSecretKey, generateSecretKey } from '../../src/nix/key.ts'
import { hashPartOf, parseStorePath } from '../../src/nix/store-path.ts'
import type { HashPart } from '../../src/nix/store-path.ts'
import { makePackage } from './nar.ts'
import { call } from './program.ts'

const STORE_DIR = '/nix/store'
const FILES_COUNT = 5_000
const FILES_BYTES = 13_400_000
const FILES_PER_FOLDER = 50
const SMALL_BYTES = 20_000

export interface LivePath {
  readonly hashPart: HashPart
  /** Where its files are. */
  readonly physical: string
  readonly narSize: number
}

export interface LiveStore {
  readonly root: string
  readonly publicKey: string
  /** One file. */
  readonly file: LivePath
  readonly tree: LivePath
  readonly small: readonly LivePath[]
}

/** @param counts bytes of the one file, and how many small paths there are */
export async function makeLiveStore(
  dir: string,
  counts: { fileBytes: number; small: number },
): Promise<LiveStore> {
  const root = join(dir, 'root')
  const sources = join(dir, 'sources')
  const key = generateSecretKey('bench-1', randomBytes)
  await mkdir(sources, { recursive: true })
  await writeFile(join(dir, 'secret-key'), formatSecretKey(key), { mode: 0o600 })
  await makeTree(join(sources, 'many-files'))
  for (let at = 0; at < counts.small; at++)
    await writeFile(join(sources, `small-${at}`), randomBytes(SMALL_BYTES))
  const { path } = await makePackage(sources, 'one-file', counts.fileBytes)
  const small = Array.from({ length: counts.small }, (_, at) => join(sources, `small-${at}`))
  await mkdir(join(dir, 'conf'))
  await writeFile(join(dir, 'conf', 'nix.conf'), 'build-users-group =\n')
  const env = {
    PATH: process.env['PATH'] ?? '',
    HOME: join(dir, 'home'),
    NIX_CONF_DIR: join(dir, 'conf'),
    NIX_USER_CONF_FILES: '',
  }
  const add = ['--store', root, '--add', path, join(sources, 'many-files'), ...small]
  const added = (await call('nix-store', add, { env })).stdout.trim().split('\n')
  const sign = ['--extra-experimental-features', 'nix-command', '--store', root, 'store', 'sign']
  await call('nix', [...sign, '-k', join(dir, 'secret-key'), ...added], { env })
  const sizes = await call('nix-store', ['--store', root, '--query', '--size', ...added], { env })
  const narSizes = sizes.stdout.trim().split('\n').map(Number)
  // Nix takes our right to delete.
  await chmod(root, 0o755)
  await call('chmod', ['-R', 'u+w', root])
  const [file, tree, ...rest] = added.map((one, at) => {
    const storePath = parseStorePath(one, STORE_DIR)
    return {
      hashPart: hashPartOf(storePath),
      physical: join(root, STORE_DIR, storePath),
      narSize: narSizes[at] ?? 0,
    }
  })
  if (file === undefined || tree === undefined) throw new Error('nix-store --add told no paths')
  return { root, publicKey: formatPublicKey(key.publicKey), file, tree, small: rest }
}

/** Sizes from next to nothing to 30 kB, as in a tree of sources. */
async function makeTree(dir: string): Promise<void> {
  const weights = Array.from(
    { length: FILES_COUNT },
    (_, at) => (((at * 7919) % FILES_COUNT) / FILES_COUNT) ** 4,
  )
  const total = weights.reduce((sum, weight) => sum + weight, 0)
  for (const [at, weight] of weights.entries()) {
    const folder = join(dir, `folder-${Math.floor(at / FILES_PER_FOLDER)}`)
    if (at % FILES_PER_FOLDER === 0) await mkdir(folder, { recursive: true })
    const size = Math.round((weight / total) * FILES_BYTES)
    await writeFile(join(folder, `file-${at}.txt`), createHash('shake256', { outputLength: size }).digest())
  }
}
