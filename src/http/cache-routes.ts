/** The routes that make a Nix binary cache, for the cache listener and the peer listener alike. */
import type { Hono } from 'hono'
import type { Log } from '../log.ts'
import { formatCacheInfo } from '../nix/cache-info.ts'
import { isNarHash } from '../nix/hash.ts'
import type { NarHash } from '../nix/hash.ts'
import { isHashPart } from '../nix/store-path.ts'
import type { HashPart } from '../nix/store-path.ts'
import type { ByteRange, CallOptions, ReadOptions } from '../source.ts'
import { notFound, refusal } from './answer.ts'
import type { Answer, Headers } from './answer.ts'
import { requestSignal, respond } from './respond.ts'
import type { HttpEnv } from './respond.ts'
import { formatContentRange, selectBytes } from './selection.ts'
import type { SelectionRequest } from './selection.ts'

/** Where the routes get their content from. `undefined` is a 404, and so is whatever is thrown. */
export interface CacheContent {
  /** The whole text, ready to be sent. */
  narInfo(hashPart: HashPart, options: CallOptions & { method: string }): Promise<string | undefined>
  nar(narHash: NarHash, options: CallOptions & { header: Header }): Promise<ServedNar | undefined>
  /** Absent where listings are not given. */
  listing?(hashPart: HashPart, options: CallOptions): Promise<Answer | undefined>
}

type Header = (name: string) => string | undefined

interface ServedNar {
  readonly narSize: number
  /** It may break off, or be wrong: for this asker alone. */
  readonly unproved?: boolean
  /** Not called for HEAD, 304 and 416. */
  open(range: ByteRange, options: ReadOptions): Promise<AsyncIterable<Uint8Array>>
  /** Headers that are known once it is open. */
  headers?(): Headers
}

export interface CacheConfig {
  readonly storeDir: string
  /** Lower is asked first; cache.nixos.org says 40. */
  readonly priority: number
  /** Said with the nix-cache-info. */
  readonly about?: Headers
}

const NARINFO_OR_LISTING = /^(.{32})\.(narinfo|ls)$/
const NAR = /^(.{52})\.nar$/

/** Nix ignores what follows; it is for caches in between. */
export const DAY = 'public, max-age=86400'
const FOR_EVER = 'public, max-age=31536000, immutable, no-transform'

export function addCacheRoutes(
  app: Hono<HttpEnv>,
  deps: { content: CacheContent; log: Log },
  config: CacheConfig,
): void {
  const { content, log } = deps
  const cacheInfo: Answer = {
    status: 200,
    headers: { ...config.about, 'Content-Type': 'text/x-nix-cache-info', 'Cache-Control': DAY },
    body: formatCacheInfo({ storeDir: config.storeDir, wantMassQuery: true, priority: config.priority }),
  }

  app.get('/nix-cache-info', (c) => respond(c, cacheInfo, { signal: requestSignal(c), log }))

  app.get('/nar/:file', async (c) => {
    const signal = requestSignal(c)
    const [, narHash = ''] = NAR.exec(c.req.param('file')) ?? []
    const header: Header = (name) => c.req.header(name)
    const nar = isNarHash(narHash) ? await content.nar(narHash, { signal, header }) : undefined
    const request = { method: c.req.method, header }
    return respond(c, nar === undefined ? notFound() : narAnswer(narHash, nar, request), { signal, log })
  })

  app.get('/:file', async (c) => {
    const signal = requestSignal(c)
    const [, hashPart = '', kind] = NARINFO_OR_LISTING.exec(c.req.param('file')) ?? []
    if (!isHashPart(hashPart)) return respond(c, notFound(), { signal, log })
    const answer =
      kind === 'ls'
        ? await content.listing?.(hashPart, { signal })
        : narInfoAnswer(await content.narInfo(hashPart, { signal, method: c.req.method }))
    return respond(c, answer ?? notFound(), { signal, log })
  })
}

/** No ETag, so never a 304: Nix takes it for an empty narinfo, and asks for none [nix-protocol A1]. */
function narInfoAnswer(body: string | undefined): Answer | undefined {
  if (body === undefined) return undefined
  return { status: 200, headers: { 'Content-Type': 'text/x-nix-narinfo', 'Cache-Control': DAY }, body }
}

/**
 * Never a Content-Encoding: it breaks old clients and every resume [nix-protocol 0.4]. Length, Accept-Ranges and an ETag
 * that is the content's own hash are what lets all of them resume [0.5].
 */
function narAnswer(narHash: string, nar: ServedNar, request: SelectionRequest): Answer {
  const { narSize } = nar
  const etag = `"${narHash}"`
  const selection = selectBytes(request, { size: narSize, etag })
  const headers = {
    'Content-Type': 'application/x-nix-nar',
    'Accept-Ranges': 'bytes',
    ETag: etag,
    'Cache-Control': nar.unproved === true ? 'no-store' : FOR_EVER,
  }
  switch (selection.status) {
    case 304:
      return { status: 304, headers, body: '' }
    case 416:
      return refusal(416, 'no such bytes', { 'Content-Range': `bytes */${narSize}`, ETag: etag })
    case 200:
    case 206: {
      const { status, range } = selection
      const partial = status === 206 ? { 'Content-Range': formatContentRange(range, narSize) } : {}
      return {
        status,
        headers: { ...headers, ...partial },
        body: {
          length: range.end - range.start,
          open: (options) => nar.open(range, options),
          headers: () => nar.headers?.() ?? {},
        },
      }
    }
    default:
      return selection satisfies never
  }
}
