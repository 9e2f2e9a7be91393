/** A Nix store that has the older paths: their files, and as much of Nix's database (schema 10) as is read. */
import { mkdir, open, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import type { NarNode } from '../../../src/nix/nar-layout.ts'
import { narHashDigest } from '../../../src/nix/hash.ts'
import { formatSignature } from '../../../src/nix/signature.ts'
import type { Contents } from '../../nix/nar-tree.ts'
import type { Random } from './random.ts'
import { STORE_DIR } from './world.ts'
import type { OldPath } from './world.ts'

const SCHEMA = `
  CREATE TABLE ValidPaths (id integer primary key autoincrement not null, path text unique not null, hash text not null,
    registrationTime integer not null, deriver text, narSize integer, ultimate integer, sigs text, ca text);
  CREATE TABLE Refs (referrer integer not null, reference integer not null, primary key (referrer, reference));`

export interface OldStore {
  /** Some byte of one of its files is another one from now on; or all are right again. */
  damage(random: Random): Promise<void>
  mend(): Promise<void>
}

export async function makeOldStore(root: string, older: readonly OldPath[]): Promise<OldStore> {
  const database = join(root, 'nix/var/nix/db/db.sqlite')
  await mkdir(dirname(database), { recursive: true })
  await mkdir(join(root, STORE_DIR), { recursive: true })
  const db = new DatabaseSync(database)
  db.exec(SCHEMA)
  const files: { path: string; bytes: Uint8Array }[] = []
  for (const { storePath, nar, signature, tree } of older) {
    const digest = Buffer.from(narHashDigest(nar.narHash)).toString('hex')
    const { lastInsertRowid } = db
      .prepare('INSERT INTO ValidPaths (path, hash, registrationTime, narSize, sigs) VALUES (?, ?, 1, ?, ?)')
      .run(`${STORE_DIR}/${storePath}`, `sha256:${digest}`, nar.bytes.length, formatSignature(signature))
    // It names itself, and nobody else.
    db.prepare('INSERT INTO Refs VALUES (?, ?)').run(lastInsertRowid, lastInsertRowid)
    await writeTree(join(root, STORE_DIR, storePath), tree.root, tree.contents, files)
  }
  db.close()
  const damaged = new Map<string, { at: number; byte: number }>()

  return {
    async damage(random) {
      const { path, bytes } = random.pick(files)
      if (bytes.length === 0 || damaged.has(path)) return
      const at = random.int(0, bytes.length - 1)
      const byte = bytes[at] ?? 0
      damaged.set(path, { at, byte })
      await writeByte(path, at, byte ^ 1)
    },
    async mend() {
      for (const [path, { at, byte }] of damaged) await writeByte(path, at, byte)
      damaged.clear()
    },
  }
}

async function writeTree(
  path: string,
  node: NarNode,
  contents: Contents,
  files: { path: string; bytes: Uint8Array }[],
): Promise<void> {
  switch (node.type) {
    case 'symlink':
      return symlink(Buffer.from(node.target), path)
    case 'directory':
      await mkdir(path)
      for (const entry of node.entries) {
        await writeTree(join(path, Buffer.from(entry.name).toString()), entry.node, contents, files)
      }
      return undefined
    case 'regular': {
      const bytes = contents.get(node.path) ?? new Uint8Array()
      files.push({ path, bytes })
      return writeFile(path, bytes, { mode: node.executable ? 0o755 : 0o644 })
    }
    default:
      return node satisfies never
  }
}

async function writeByte(path: string, at: number, byte: number): Promise<void> {
  const file = await open(path, 'r+')
  try {
    await file.write(Uint8Array.of(byte), 0, 1, at)
  } finally {
    await file.close()
  }
}
