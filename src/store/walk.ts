import { isUtf8 } from 'node:buffer'
import { lstatSync, readdirSync, readlinkSync } from 'node:fs'
import type { Dirent, Stats } from 'node:fs'
import { setImmediate } from 'node:timers/promises'
import { NAR_MAX_DEPTH, NAR_MAX_ENTRIES_COUNT, STORE_TURN_COUNT } from '../limits.ts'
import { quoteBytes } from '../nix/nar-encode.ts'
import { NarTreeError } from '../nix/nar-layout.ts'
import type { NarDirectoryEntry, NarNode } from '../nix/nar-layout.ts'
import type { CallOptions } from '../source.ts'
import { orChanged, StorePathChangedError } from './errors.ts'

const SLASH = Buffer.from('/')
const OWNER_MAY_EXECUTE = 0o100

/**
 * The tree below `path` as Nix archives it: types, sizes, the owner's x bit, link targets, and nothing else. Opens no
 * file and follows no symlink. By synchronous calls, which cost a few µs each, with a turn for everybody else between.
 *
 * @throws StorePathChangedError when something vanishes meanwhile, NarTreeError for a device, FIFO or socket
 */
export async function walkStorePath(path: string, options: CallOptions): Promise<NarNode> {
  let entries = 0

  const walk = async (
    path: string | Buffer,
    kind: Dirent<Buffer> | Stats,
    depth: number,
  ): Promise<NarNode> => {
    entries += 1
    if (entries % STORE_TURN_COUNT === 0) await setImmediate()
    options.signal.throwIfAborted()
    if (entries > NAR_MAX_ENTRIES_COUNT)
      throw new NarTreeError(`${show(path)}: more than ${NAR_MAX_ENTRIES_COUNT} entries`)
    if (depth >= NAR_MAX_DEPTH)
      throw new NarTreeError(`${show(path)}: more than ${NAR_MAX_DEPTH - 1} nested directories`)
    if (kind.isFile()) {
      const stats = orChanged(path, () => lstatSync(path))
      if (!stats.isFile()) throw new StorePathChangedError(`${show(path)} was a file just now`)
      return { type: 'regular', size: stats.size, executable: (stats.mode & OWNER_MAY_EXECUTE) !== 0, path }
    }
    if (kind.isSymbolicLink())
      return { type: 'symlink', target: orChanged(path, () => readlinkSync(path, { encoding: 'buffer' })) }
    if (!kind.isDirectory()) throw new NarTreeError(`${show(path)} is no file, directory or symlink`)
    const found = orChanged(path, () => readdirSync(path, { encoding: 'buffer', withFileTypes: true }))
    const children: NarDirectoryEntry[] = []
    for (const child of found)
      children.push({ name: child.name, node: await walk(join(path, child.name), child, depth + 1) })
    return { type: 'directory', entries: children }
  }

  return walk(
    path,
    orChanged(path, () => lstatSync(path)),
    0,
  )
}

/** Names are bytes: a path is text as long as it is UTF-8, which is far cheaper, and a Buffer below a name that is not. */
function join(directory: string | Buffer, name: Buffer): string | Buffer {
  if (typeof directory === 'string' && isUtf8(name)) return `${directory}/${name.toString()}`
  return Buffer.concat([Buffer.from(directory), SLASH, name])
}

function show(path: string | Buffer): string {
  return quoteBytes(Buffer.from(path))
}
