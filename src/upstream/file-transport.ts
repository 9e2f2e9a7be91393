import { constants } from 'node:fs'
import { open, opendir, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { UPSTREAM_FILE_READ_BYTES } from '../limits.ts'
import { isHashPart, type HashPart } from '../nix/store-path.ts'
import { SourceFaultError, type SourceId } from '../source.ts'
import type { Transport } from './transport.ts'

/** What `nix copy --to file://` writes, and any sane layout: no dot files, so no `..`. */
const SEGMENT = /^[0-9A-Za-z_+=?-][0-9A-Za-z._+=?!:-]{0,254}$/
const MAX_SEGMENTS = 4
const SUFFIX = '.narinfo'

/** A binary cache in a folder, as a file URL whose path ends with a slash. */
export function createFileTransport(base: URL, id: SourceId): Transport {
  const folder = fileURLToPath(base)

  /** A whitelist, not a path join: the name comes from a narinfo. */
  function pathOf(url: URL): string {
    const segments = url.pathname.slice(base.pathname.length).split('/').map(decoded)
    if (url.search !== '' || segments.length > MAX_SEGMENTS || !segments.every((one) => SEGMENT.test(one))) {
      throw new SourceFaultError(
        id,
        `expected a path like nar/<hash>.nar.xz in a folder cache, got ${JSON.stringify(url.pathname.slice(0, 80))}`,
      )
    }
    return join(folder, ...segments)
  }

  return {
    async get(url, { signal, from = 0 }) {
      const file = await openRegular(pathOf(url))
      if (file === undefined) return undefined
      return { offset: from, chunks: chunksOf(file, from, signal) }
    },
    async *list() {
      for await (const { name } of await opendir(folder)) {
        const hashPart = name.slice(0, -SUFFIX.length)
        if (name.endsWith(SUFFIX) && isHashPart(hashPart)) yield hashPart satisfies HashPart
      }
    },
    close: () => Promise.resolve(),
  }

  async function openRegular(path: string): Promise<FileHandle | undefined> {
    let file: FileHandle
    try {
      // A link could lead anywhere, and opening a FIFO would wait for its writer.
      file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
    } catch (error) {
      if (
        error instanceof Error &&
        'code' in error &&
        (error.code === 'ENOENT' || error.code === 'ENOTDIR')
      ) {
        return undefined
      }
      throw error
    }
    const stat = await file.stat()
    if (stat.isFile()) return file
    await file.close()
    throw new SourceFaultError(id, `expected a regular file, ${path} is none`)
  }
}

function decoded(segment: string): string {
  try {
    return decodeURIComponent(segment)
  } catch {
    return segment
  }
}

async function* chunksOf(file: FileHandle, from: number, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  try {
    for (let position = from; ;) {
      signal.throwIfAborted()
      const buffer = Buffer.allocUnsafeSlow(UPSTREAM_FILE_READ_BYTES)
      const { bytesRead } = await file.read(buffer, 0, buffer.length, position)
      if (bytesRead === 0) return
      position += bytesRead
      yield buffer.subarray(0, bytesRead)
    }
  } finally {
    await file.close()
  }
}
