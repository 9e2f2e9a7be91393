/** A feed's files from a web host or a folder: an untrusted pipe, which the follower checks. */
import { fileURLToPath } from 'node:url'
import { createPublishedFiles } from '../feed/feed-files.ts'
import { parseFeedName } from '../feed/feed-name.ts'
import type { FeedSource } from '../feed/feed-source.ts'
import { SourceLieError } from '../source.ts'
import { createHttpTransport } from './http-transport.ts'

export interface FeedPipe extends FeedSource {
  close(): Promise<void>
}

/**
 * @param prefix http, https or file; with or without a final slash
 * @throws RangeError for any other URL
 */
export function createFeedPipe(prefix: URL, name: string): FeedPipe {
  const base = new URL(prefix.href.endsWith('/') ? prefix.href : `${prefix.href}/`)
  const id = `feed:${prefix.href}`
  if (base.protocol === 'file:') {
    const files = createPublishedFiles(new Map([[parseFeedName(name), fileURLToPath(base)]]))
    return { id, fetch: (path) => files.read(name, path), close: async () => {} }
  }
  if (base.protocol !== 'http:' && base.protocol !== 'https:') {
    throw new RangeError(`expected an http, https or file URL of a feed, got ${prefix.href}`)
  }
  const transport = createHttpTransport(base, id)
  return {
    id,
    close: () => transport.close(),
    async fetch(path, { signal, maxBytes }) {
      const body = await transport.get(new URL(path, base), { size: 'small', signal })
      if (body === undefined) return undefined
      const { encoding, chunks } = body
      if (encoding !== undefined) {
        // Only to let go of the connection.
        for await (const _ of chunks) break
        throw new SourceLieError(id, `${path}: expected no Content-Encoding, got ${encoding}`)
      }
      const parts: Uint8Array[] = []
      let length = 0
      for await (const part of chunks) {
        length += part.length
        if (length > maxBytes)
          throw new SourceLieError(id, `${path}: expected at most ${maxBytes} bytes, got more`)
        parts.push(part)
      }
      return Buffer.concat(parts, length)
    },
  }
}
