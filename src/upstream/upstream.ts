import { parseCid } from '../dag/cid.ts'
import {
  CACHE_INFO_MAX_BYTES,
  NARINFO_MAX_BYTES,
  UPSTREAM_FILE_DEADLINE_MS,
  UPSTREAM_FIRST_BYTE_CEILING_MS,
  UPSTREAM_NARINFO_CEILING_MS,
  UPSTREAM_STALL_MS,
} from '../limits.ts'
import type { Log } from '../log.ts'
import { CacheInfoError, parseCacheInfo } from '../nix/cache-info.ts'
import { NarInfoError, parseNarInfo, type NarInfo } from '../nix/narinfo.ts'
import { hashPartOf, type HashPart } from '../nix/store-path.ts'
import {
  COST,
  SourceLieError,
  type CallOptions,
  type Cost,
  type NarInfoCandidate,
  type NarInfoSource,
  type SourceId,
} from '../source.ts'
import { CompressedDataError, PageError, UpstreamUnfitError } from './errors.ts'
import { decompress } from './decompress.ts'
import { createFileTransport } from './file-transport.ts'
import type { Hosts, HostStatus, Visit } from './host.ts'
import { createHttpTransport } from './http-transport.ts'
import { createNarStream } from './nar-stream.ts'
import { fileUrl, narUrl } from './nar-url.ts'
import { sourceError } from './source-error.ts'
import type { Transport, TransportBody } from './transport.ts'
import { createWatch, type Watch } from './watch.ts'
import { createXzThreads, type XzThreads } from './xz-threads.ts'

export interface UpstreamConfig {
  /** http, https or file; with or without a final slash, without query or credentials. */
  url: URL
  storeDir: string
  /** Shorter ones for tests, and for caches that are near. */
  deadlines?: Partial<UpstreamDeadlines>
  /** One that nobody vouches for: other names and costs than an upstream's, and no redirect of its is followed. */
  stranger?: {
    /** Of its narinfos. */
    id: SourceId
    /** Of its NARs. */
    streamId: SourceId
    cost: Cost
  }
}

interface UpstreamDeadlines {
  /** The whole of a narinfo or nix-cache-info. All are on top of what the host's answers so far suggest. */
  narInfoMs: number
  /** From asking for a NAR to its first byte. */
  firstByteMs: number
  /** Between two chunks of it. */
  stallMs: number
}

/** What a cache says of itself. */
interface UpstreamInfo {
  /** Lower is preferred. */
  priority: number
  wantMassQuery: boolean
}

interface FileOptions extends CallOptions {
  maxBytes: number
}

interface UpstreamFile {
  /** Without any Content-Encoding. */
  readonly bytes: Uint8Array
  /** As the upstream said it, unchecked. */
  readonly contentType?: string
}

export interface UpstreamStatus extends HostStatus {
  /** `unfit`: it is no cache for our store. `resting`: its host fails, and is left alone for now. */
  readonly state: 'ok' | 'resting' | 'unfit'
  /** Once its nix-cache-info is known. */
  readonly priority?: number
}

/** A binary cache that somebody else runs, at a URL or in a folder. */
export interface Upstream extends NarInfoSource {
  /** Ends with a slash. */
  readonly url: URL
  /**
   * Reads nix-cache-info. While its last answer was unfit, every `lookup` is a miss.
   * @throws UpstreamUnfitError when it is no cache for our store, SourceFaultError or SourceRestingError when it did not answer
   */
  cacheInfo(options: CallOptions): Promise<UpstreamInfo>
  /**
   * A small file beside the narinfos, passed on as it is: `log/…`, `realisations/…`, `<hash>.ls`. Nobody signed it.
   *
   * @param name path below the cache, segments not escaped; without empty or dot segments
   * @returns undefined when it is not there
   * @throws RangeError for such a name; SourceLieError for more than `maxBytes`; SourceFaultError
   */
  file(name: string, options: FileOptions): Promise<UpstreamFile | undefined>
  status(): UpstreamStatus
  /** What there is, for publishing all of it; only of a folder. */
  hashParts?(): AsyncIterable<HashPart>
  close(): Promise<void>
}

/** The chunks of a body, under more deadlines than the first. */
type Timed = (body: TransportBody, watch: Watch, visit: Visit) => AsyncIterable<Uint8Array>

/** Behind those that say one; Nix itself counts 0 then, before all others (nix-protocol A2). */
const DEFAULT_PRIORITY = 100

const DEADLINES: UpstreamDeadlines = {
  narInfoMs: UPSTREAM_NARINFO_CEILING_MS,
  firstByteMs: UPSTREAM_FIRST_BYTE_CEILING_MS,
  stallMs: UPSTREAM_STALL_MS,
}

export interface UpstreamDeps {
  log: Log
  /** Shared by all upstreams, since some are on one host. */
  hosts: Hosts
  /** Shared by several upstreams, so that their number bounds all of them; its own without. */
  xzThreads?: XzThreads
}

/** @throws RangeError when the URL is of no kind we read */
export function createUpstream(config: UpstreamConfig, deps: UpstreamDeps): Upstream {
  const { storeDir } = config
  const { log, hosts, xzThreads = createXzThreads() } = deps
  const deadlines = { ...DEADLINES, ...config.deadlines }
  const url = baseUrl(config.url)
  const { stranger } = config
  const id: SourceId = stranger?.id ?? `upstream:${url.href.replace(/\/$/, '')}`
  const streamId = stranger?.streamId ?? id
  const cost = stranger?.cost ?? COST.upstream
  const transport = createTransport(url, id, { redirects: stranger === undefined })
  const host = hosts.of(url)
  let unfit: string | undefined
  let priority: number | undefined

  /** A whole narinfo or nix-cache-info as text; `undefined` when it is not there. */
  async function text(name: string, maxBytes: number, options: CallOptions): Promise<string | undefined> {
    const file = new URL(name, url)
    const found = await read(file, maxBytes, (body) => body.chunks, options)
    return found === undefined ? undefined : decode(found.bytes, file)
  }

  async function read(
    file: URL,
    maxBytes: number,
    timed: Timed,
    options: CallOptions,
  ): Promise<UpstreamFile | undefined> {
    const { value, visit } = await host.visit(
      { id, size: 'small', signal: options.signal },
      async (ours, inner) => {
        const watch = createWatch(id, file, Math.min(ours.deadlineMs, deadlines.narInfoMs), inner)
        const { signal } = watch
        try {
          const body = await transport.get(file, { signal, size: 'small' })
          if (body === undefined) return undefined
          const { encoding = 'none', contentType } = body
          const plain = decompress(encoding, timed(body, watch, ours), { maxBytes, signal, xzThreads })
          const bytes = Buffer.concat(await Array.fromAsync(plain))
          return { bytes, ...(contentType === undefined ? {} : { contentType }) }
        } catch (error) {
          const reason = watch.reason(error)
          if (inner.signal.aborted) throw reason
          if (reason instanceof CompressedDataError && !reason.truncated) {
            throw new SourceLieError(id, `${file.href}: ${reason.message}`, { cause: reason })
          }
          throw sourceError(id, file, reason)
        } finally {
          watch.stop()
        }
      },
    )
    visit.answered()
    visit.leave()
    return value
  }

  function decode(bytes: Uint8Array, file: URL): string {
    try {
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
    } catch (cause) {
      throw new SourceLieError(id, `${file.href}: expected UTF-8 text`, { cause })
    }
  }

  function candidate(told: string, hashPart: HashPart): NarInfoCandidate {
    const lie = (message: string, cause?: unknown): SourceLieError =>
      new SourceLieError(id, `${hashPart}.narinfo: ${message}`, { cause })
    let info: NarInfo
    let narFile: URL
    try {
      info = parseNarInfo(told, storeDir)
      narFile = narUrl(url, info.url)
    } catch (error) {
      if (error instanceof NarInfoError || error instanceof RangeError) {
        throw lie(error.message, isNarInfo(told) ? error : new PageError(error.message, { cause: error }))
      }
      throw error
    }
    if (hashPartOf(info.storePath) !== hashPart) {
      throw lie(`expected a store path with the hash part ${hashPart}, got ${info.storePath}`)
    }
    const { compression } = info
    const { firstByteMs, stallMs } = deadlines
    const stream = createNarStream(
      { transport, host, xzThreads },
      {
        id: streamId,
        cost,
        url: narFile,
        compression,
        firstByteMs,
        stallMs,
        priority: priority ?? DEFAULT_PRIORITY,
      },
    )
    const found: NarInfoCandidate = { info, from: id, stream }
    const cid = info.cid === undefined ? undefined : cidOf(info.cid, hashPart)
    if (cid !== undefined) found.cid = cid
    return found
  }

  /** One that we cannot use is no reason to refuse the narinfo: nobody signed that line. */
  function cidOf(text: string, hashPart: HashPart): NarInfoCandidate['cid'] {
    try {
      return parseCid(text)
    } catch (error) {
      log.debug({ source: id, hashPart, error }, 'ignoring the CID line of a narinfo')
      return undefined
    }
  }

  const upstream: Upstream = {
    id,
    cost,
    url,
    get rests() {
      return host.rests
    },
    async lookup(hashPart, options) {
      if (unfit !== undefined) return undefined
      const told = await text(`${hashPart}.narinfo`, NARINFO_MAX_BYTES, options)
      return told === undefined ? undefined : candidate(told, hashPart)
    },
    async file(name, { maxBytes, signal }) {
      const file = fileUrl(url, name)
      if (unfit !== undefined) return undefined
      const timed: Timed = (body, watch, visit) => {
        watch.whole(UPSTREAM_FILE_DEADLINE_MS)
        return watch.chunks(body.chunks, deadlines.stallMs, () => visit.answered())
      }
      return read(file, maxBytes, timed, { signal })
    },
    async cacheInfo(options) {
      try {
        const info = judge(await text('nix-cache-info', CACHE_INFO_MAX_BYTES, options))
        unfit = undefined
        priority = info.priority
        return info
      } catch (error) {
        const reason =
          error instanceof SourceLieError || error instanceof CacheInfoError
            ? new UpstreamUnfitError(`${url.href} is not used: ${error.message}`, { cause: error })
            : error
        if (reason instanceof UpstreamUnfitError) unfit = reason.message
        throw reason
      }
    },
    status() {
      const { lastError = unfit, restsMs } = host.status()
      return {
        state: unfit !== undefined ? 'unfit' : restsMs === undefined ? 'ok' : 'resting',
        ...(priority === undefined ? {} : { priority }),
        ...(restsMs === undefined ? {} : { restsMs }),
        ...(lastError === undefined ? {} : { lastError }),
      }
    },
    close: () => transport.close(),
  }
  if (transport.list !== undefined) upstream.hashParts = transport.list.bind(transport)
  return upstream

  function judge(told: string | undefined): UpstreamInfo {
    if (told === undefined) {
      throw new UpstreamUnfitError(
        `${url.href} is not used: it has no nix-cache-info, so it is no binary cache`,
      )
    }
    const { storeDir: theirs = storeDir, wantMassQuery, priority = DEFAULT_PRIORITY } = parseCacheInfo(told)
    if (theirs !== storeDir) {
      throw new UpstreamUnfitError(
        `${url.href} is not used: it is for the store ${JSON.stringify(theirs.slice(0, 80))}, and ours is ${storeDir}`,
      )
    }
    return { priority, wantMassQuery }
  }
}

function baseUrl(given: URL): URL {
  const url = new URL(given)
  if (url.search !== '' || url.hash !== '' || url.username !== '' || url.password !== '') {
    throw new RangeError(`upstream ${url.host}: expected a URL without query, fragment and credentials`)
  }
  if (!url.pathname.endsWith('/')) url.pathname += '/'
  return url
}

/** Whether it means to be one: a login page is none. */
function isNarInfo(text: string): boolean {
  return /^StorePath:/m.test(text)
}

function createTransport(url: URL, id: SourceId, options: { redirects: boolean }): Transport {
  switch (url.protocol) {
    case 'http:':
    case 'https:':
      return createHttpTransport(url, id, options)
    case 'file:':
      return createFileTransport(url, id)
    default:
      throw new RangeError(`upstream: expected http, https or file, got ${JSON.stringify(url.protocol)}`)
  }
}
