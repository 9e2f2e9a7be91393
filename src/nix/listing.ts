/**
 * What is in a NAR, as JSON (version 1): the `<hash>.ls` beside a narinfo. Byte for byte what Nix 2.8 writes with
 * `write-nar-listing` (libstore/nar-accessor.cc, listNar), so that it can be compared. Put together as text: the keys of
 * a JavaScript object are not in the order of a NAR when they look like numbers.
 */
import { LISTING_MAX_BYTES } from '../limits.ts'
import { quoteBytes } from './nar-encode.ts'
import type { NarEntry } from './nar-reader.ts'

export interface Listing {
  /** The entries of one NAR, in its order. @throws ListingError */
  add(entry: NarEntry): void
  /** Once the NAR is whole. */
  finish(): string
}

/** A NAR that no listing can describe. */
export class ListingError extends Error {
  override readonly name = 'ListingError'
}

/** Names are bytes and JSON is text: Nix 2.8 writes the bytes as they are, which no reader takes, newer ones fail. */
const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

export function createListing(): Listing {
  const parts: string[] = []
  let bytes = 0
  /** Directories that are not closed yet: as many as the next entry has names, or more. */
  let open = 0
  let first = true

  const write = (part: string): void => {
    bytes += Buffer.byteLength(part)
    if (bytes > LISTING_MAX_BYTES) throw new ListingError(`listing of more than ${LISTING_MAX_BYTES} bytes`)
    parts.push(part)
  }

  const closeDownTo = (depth: number): void => {
    for (; open > depth; open--) {
      write('}}')
      first = false
    }
  }

  write('{"version":1,"root":')
  return {
    add(entry) {
      const { path } = entry
      closeDownTo(path.length)
      const name = path.at(-1)
      if (name !== undefined) write(`${first ? '' : ','}${jsonString(name)}:`)
      first = false
      switch (entry.type) {
        case 'regular':
          write(
            `{"type":"regular","size":${entry.size}${entry.executable ? ',"executable":true' : ''},"narOffset":${entry.offset}}`,
          )
          break
        case 'symlink':
          write(`{"type":"symlink","target":${jsonString(entry.target)}}`)
          break
        case 'directory':
          write('{"type":"directory","entries":{')
          open += 1
          first = true
          break
        default:
          entry satisfies never
      }
    },
    finish() {
      closeDownTo(0)
      write('}')
      return parts.join('')
    },
  }
}

/** @throws ListingError when the bytes are no UTF-8 */
function jsonString(bytes: Uint8Array): string {
  let text: string
  try {
    text = UTF8.decode(bytes)
  } catch (cause) {
    throw new ListingError(`name or target ${quoteBytes(bytes)} is not UTF-8, which JSON cannot say`, {
      cause,
    })
  }
  // Of the short escapes Nix has no \b and no \f.
  return JSON.stringify(text).replace(/\\[^u]/g, (escape) => {
    if (escape === '\\b') return '\\u0008'
    return escape === '\\f' ? '\\u000c' : escape
  })
}
