/**
 * The trustless gateway: blocks and CARs by CID, which the client checks itself. What is not here is a 404 at once; nothing
 * is fetched for a stranger. Answers are Kubo's (`vectors/kubo/gateway.txt`), but for `format=tar` and pages (406, 400:
 * no UnixFS is decoded here) and the text of errors.
 */
import type { Context, Hono } from 'hono'
import type { CID } from 'multiformats/cid'
import { hostKey } from '../config/ip-address.ts'
import { writeCar } from '../dag/car.ts'
import { CidError, parseCid, RAW_CODE, rawCid } from '../dag/cid.ts'
import { rootLink } from '../dag/reader.ts'
import type { DagLink } from '../dag/reader.ts'
import type { Log } from '../log.ts'
import type { CallOptions } from '../source.ts'
import type { WireCount } from '../operations/wire-count.ts'
import type { LentBlock, LocalBlocks } from '../spool/local-blocks.ts'
import { AVAILABLE_DICTIONARY, parseAvailableDictionary } from '../swarm/dcz.ts'
import { parseDownlink, prefersCoding } from './accept-encoding.ts'
import { bodyOfHead, refusal } from './answer.ts'
import type { Answer, Headers } from './answer.ts'
import { carBlocks } from './car-body.ts'
import type { GetBlock } from './car-body.ts'
import { GatewayError, gatewayStatus } from './errors.ts'
import { parseFormat, requestedType } from './gateway-request.ts'
import type { CarRequest } from './gateway-request.ts'
import type { LeafCoder, LeafDictionary } from './leaf-coder.ts'
import { rawAnswer } from './raw-answer.ts'
import type { BlockCoding } from './raw-answer.ts'
import { nodeSide, requestSignal, respond } from './respond.ts'
import type { HttpEnv } from './respond.ts'
import { etagListed } from './selection.ts'
import type { SelectionRequest } from './selection.ts'

export interface GatewayDeps {
  readonly blocks: LocalBlocks
  /** Of the NAR with this root, if it may be shared. */
  narSizeOf(root: CID): number | undefined
  readonly coder: LeafCoder
  /** Of single blocks. */
  readonly given: WireCount
  readonly log: Log
}

interface AskedBlock {
  /** As in the URL. */
  readonly text: string
  readonly cid: CID
  /** Bytes of this one block. */
  readonly size: number
}

/** An identity CID with nothing in it: what clients ask to find out whether this is a gateway. */
const PROBE = 'bafkqaaa'

export function addGatewayRoutes(app: Hono<HttpEnv>, deps: GatewayDeps): void {
  const { log } = deps
  app.get('/ipfs/:cid', async (c) => {
    const signal = requestSignal(c)
    return respond(c, await gatewayAnswer(c, deps, signal), { signal, log })
  })
}

async function gatewayAnswer(c: Context<HttpEnv>, deps: GatewayDeps, signal: AbortSignal): Promise<Answer> {
  const text = c.req.param('cid') ?? ''
  // What is known so far: Kubo sends it with errors too.
  const headers: Record<string, string> = {}
  try {
    const cid = text === PROBE ? undefined : parseAskedCid(text)
    const path = `/ipfs/${text}`
    headers['X-Ipfs-Path'] = path
    const query = new URL(c.req.url).searchParams
    const type = requestedType(query, c.req.header('accept'))
    if (type.location !== undefined) headers['Content-Location'] = `${path}?${type.location}`
    const format = parseFormat(type, query)
    const request = { method: c.req.method, header: (name: string) => c.req.header(name) }
    const filename = fileName(query.get('filename'), text, format.kind)
    const found = { ...headers, ...foundHeaders(text, filename) }

    if (cid === undefined) {
      if (format.kind === 'car') throw new GatewayError('not-here', 'the probe has no CAR')
      const probe = { text, size: 0, lend: () => Promise.resolve(EMPTY), coding: undefined }
      return await rawAnswer(probe, request, { found, given: deps.given })
    }
    const size = deps.blocks.size(cid, 'shared')
    if (size === undefined) throw missing(request)
    const block = { text, cid, size }
    // The index says maybe, the bytes decide: before the head goes out, so that it can still be a 404.
    const read = async (): Promise<Uint8Array> => {
      const bytes = await deps.blocks.get(cid, 'shared', { signal })
      if (bytes === undefined) throw missing(request)
      return bytes
    }
    if (format.kind === 'car') return await carAnswer(block, format.car, deps, read, request, found)
    const lend = async (): Promise<LentBlock> => {
      const lent = await deps.blocks.lend(cid, 'shared', { signal })
      if (lent === undefined) throw missing(request)
      return lent
    }
    const coding =
      cid.code === RAW_CODE && prefersCoding(request.header('accept-encoding'), 'zstd')
        ? leafCoding(c, text, deps, { signal })
        : undefined
    return await rawAnswer({ text, size, lend, coding }, request, { found, given: deps.given })
  } catch (error) {
    if (!(error instanceof GatewayError)) throw error
    return refusal(gatewayStatus(error.reason), error.message, headers)
  }
}

function parseAskedCid(text: string): CID {
  try {
    return parseCid(text)
  } catch (cause) {
    if (!(cause instanceof CidError)) throw cause
    throw new GatewayError('bad-cid', 'expected /ipfs/ and a CIDv1 in base32, raw or dag-pb, sha2-256', {
      cause,
    })
  }
}

function missing(request: SelectionRequest): GatewayError {
  const onlyIfCached = /(?:^|,)\s*only-if-cached\s*(?:,|$)/i.test(request.header('cache-control') ?? '')
  return new GatewayError(onlyIfCached ? 'not-cached' : 'not-here', 'this block is not here')
}

/** Of leaves alone: interior nodes are digests, which nothing makes smaller. */
function leafCoding(
  c: Context<HttpEnv>,
  cid: string,
  { coder, blocks }: GatewayDeps,
  options: CallOptions,
): BlockCoding {
  const peer = hostKey(nodeSide(c).incoming?.socket.remoteAddress ?? '')
  const linkBytesPerS = parseDownlink(c.req.header('downlink'))
  const dictionary = dictionaryOf((name) => c.req.header(name), blocks)
  const name = dictionary?.cid.toString()
  return {
    dictionary: name,
    ready: () => coder.ready(cid, name),
    code: (bytes) => coder.code({ cid, bytes, peer, linkBytesPerS, dictionary }, options),
  }
}

/** Only what the asker may have as well: else the size of an answer would tell what is here. */
function dictionaryOf(header: SelectionRequest['header'], blocks: LocalBlocks): LeafDictionary | undefined {
  if (!prefersCoding(header('accept-encoding'), 'dcz')) return undefined
  const digest = parseAvailableDictionary(header(AVAILABLE_DICTIONARY))
  const cid = digest && rawCid(digest)
  if (cid === undefined || blocks.size(cid, 'shared') === undefined) return undefined
  return { cid, lend: (options) => blocks.lend(cid, 'shared', options) }
}

const EMPTY: LentBlock = { bytes: new Uint8Array(), release: () => {} }

async function carAnswer(
  block: AskedBlock,
  car: CarRequest,
  deps: GatewayDeps,
  read: () => Promise<Uint8Array>,
  request: SelectionRequest,
  found: Headers,
): Promise<Answer> {
  const { cid } = block
  const root = carRoot(block, car, deps)
  // Weak: another order of blocks would be as good a CAR.
  const etag = `W/"${block.text}.car.${etagSuffix(car)}"`
  const headers = {
    ...found,
    'Content-Type': `application/vnd.ipld.car; version=1; order=dfs; dups=${car.dups ? 'y' : 'n'}`,
    'Accept-Ranges': 'none',
    ETag: etag,
  }
  if (etagListed(request.header('if-none-match'), etag)) return { status: 304, headers, body: '' }
  if (request.method === 'HEAD') return { status: 200, headers, body: bodyOfHead(undefined) }
  const first = await read()
  const get: GetBlock = (wanted, options) =>
    wanted.equals(cid) ? Promise.resolve(first) : deps.blocks.get(wanted, 'shared', options)
  // One block is sent with its length, as Kubo does.
  if (root.depth === 0 || car.scope === 'block') {
    const parts: Uint8Array[] = []
    for await (const part of writeCar(cid, [{ cid, bytes: first }])) parts.push(part)
    return { status: 200, headers, body: Buffer.concat(parts) }
  }
  const open = (options: CallOptions) => Promise.resolve(writeCar(cid, carBlocks(root, car, get, options)))
  return { status: 200, headers, body: { length: undefined, open } }
}

/** @throws GatewayError for a node inside a NAR's tree: only a root tells how much is below, so only a root is walked */
function carRoot(block: AskedBlock, car: CarRequest, deps: GatewayDeps): DagLink {
  const { cid, size } = block
  if (cid.code === RAW_CODE) return rootLink(cid, size)
  const narSize = deps.narSizeOf(cid)
  if (narSize !== undefined) return rootLink(cid, narSize)
  if (car.scope === 'block') return { cid, offset: 0, size: 0, depth: 1 }
  throw new GatewayError('not-here', 'this block is not the root of a NAR; dag-scope=block gives it alone')
}

function etagSuffix({ scope, dups, entityBytes }: CarRequest): string {
  const range = entityBytes === undefined ? [] : [entityBytes.from, entityBytes.to ?? 'end']
  return [scope, dups ? 'y' : 'n', ...range].join('.')
}

function foundHeaders(text: string, filename: string): Headers {
  return {
    'Cache-Control': 'public, max-age=29030400, immutable',
    'Content-Disposition': `attachment; filename="${filename}"`,
    'X-Content-Type-Options': 'nosniff',
    'X-Ipfs-Roots': text,
    // One URL has several answers when there is no `format`, and a leaf has several forms.
    Vary: 'Accept, Accept-Encoding, Available-Dictionary',
  }
}

/** The asked one only if it can stand between quotes as it is. */
function fileName(asked: string | null, text: string, kind: 'raw' | 'car'): string {
  if (asked !== null && /^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$/.test(asked)) return asked
  return `${text}.${kind === 'raw' ? 'bin' : 'car'}`
}
