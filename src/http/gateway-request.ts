/**
 * What a request to the trustless gateway asks for. https://specs.ipfs.tech/http-gateways/trustless-gateway/, with
 * IPIP-402 (parts of CARs) and IPIP-412 (order and duplicates); where the text leaves room, as Kubo 0.42 answers.
 */
import { GatewayError } from './errors.ts'

export type GatewayFormat = { kind: 'raw' } | { kind: 'car'; car: CarRequest }

export interface CarRequest {
  /** `entity` is `all` here: a NAR is one file. */
  readonly scope: 'block' | 'entity' | 'all'
  /** Whether a block that occurs again is sent again. */
  readonly dups: boolean
  /** Of the file's bytes, inclusive; negative counts from the end, `to` undefined is the end. Only with `entity`. */
  readonly entityBytes: { readonly from: number; readonly to: number | undefined } | undefined
}

/** A media type, and what an Accept header said with it. */
export interface GatewayType {
  readonly name: string
  readonly parameters: ReadonlyMap<string, string>
  /** Query that asks the same without an Accept header, when there was one: Kubo's Content-Location. */
  readonly location: string | undefined
}

const RAW = 'application/vnd.ipld.raw'
const CAR = 'application/vnd.ipld.car'
/** Known to other gateways; we have no codec but the blocks' own and decode no UnixFS. */
const OTHER_FORMATS: ReadonlySet<string> = new Set([
  'application/vnd.ipfs.ipns-record',
  'application/vnd.ipld.dag-cbor',
  'application/vnd.ipld.dag-json',
  'application/cbor',
  'application/json',
  'application/x-tar',
])
const FORMAT_PARAMETERS: ReadonlyMap<string, string> = new Map([
  ['raw', RAW],
  ['car', CAR],
  ['tar', 'application/x-tar'],
  ['dag-json', 'application/vnd.ipld.dag-json'],
  ['dag-cbor', 'application/vnd.ipld.dag-cbor'],
  ['json', 'application/json'],
  ['cbor', 'application/cbor'],
  ['ipns-record', 'application/vnd.ipfs.ipns-record'],
])

/** @throws GatewayError (`no-format`, `bad-parameter`) */
export function requestedType(query: URLSearchParams, accept: string | undefined): GatewayType {
  const format = query.get('format')
  // It wins, since browsers and proxies send an Accept of their own.
  if (format !== null) return typeOfFormat(format)
  const type = acceptedType(accept)
  return { ...type, location: locationOf(type, query) }
}

/** @throws GatewayError (`other-format`, `bad-parameter`) */
export function parseFormat(type: GatewayType, query: URLSearchParams): GatewayFormat {
  if (type.name === RAW) return { kind: 'raw' }
  if (type.name === CAR) return { kind: 'car', car: parseCar(query, type.parameters) }
  throw new GatewayError('other-format', `only raw blocks and CARs are served here, not ${type.name}`)
}

function typeOfFormat(format: string): GatewayType {
  const name = FORMAT_PARAMETERS.get(format)
  if (name === undefined) throw new GatewayError('bad-parameter', 'unknown format')
  return { name, parameters: new Map(), location: undefined }
}

/** The first one that is known, as Kubo: weights are not looked at. */
function acceptedType(accept: string | undefined): GatewayType {
  for (const item of (accept ?? '').split(',')) {
    const [name = '', ...parameters] = item.split(';').map((part) => part.trim())
    const lower = name.toLowerCase()
    if (lower !== RAW && lower !== CAR && !OTHER_FORMATS.has(lower)) continue
    return { name: lower, parameters: new Map(parameters.map(parseParameter)), location: undefined }
  }
  throw new GatewayError(
    'no-format',
    `this gateway serves only verifiable answers: ask for ?format=raw or car, or Accept ${RAW} or ${CAR}`,
  )
}

function parseParameter(text: string): [name: string, value: string] {
  const [name = '', value = ''] = text.split('=', 2)
  return [name.toLowerCase(), value.replace(/^"(.*)"$/, '$1')]
}

function parseCar(query: URLSearchParams, parameters: ReadonlyMap<string, string>): CarRequest {
  const parameter = (name: string) => query.get(`car-${name}`) ?? parameters.get(name)
  refuseUnless(['1'], parameter('version'), `${CAR} version: only version=1 is supported`)
  // `unk` allows any order, and dfs is one.
  refuseUnless(['dfs', 'unk'], parameter('order'), `${CAR} order: only order=dfs is supported`)
  refuseUnless(['y', 'n'], parameter('dups'), `${CAR} dups: only dups=y and dups=n are supported`)
  const scope = query.get('dag-scope') ?? 'all'
  if (scope !== 'block' && scope !== 'entity' && scope !== 'all') {
    throw new GatewayError('bad-parameter', `unsupported ${CAR} scope parameter`)
  }
  const range = query.get('entity-bytes')
  const entityBytes = range === null ? undefined : parseEntityBytes(range)
  return {
    scope,
    dups: parameter('dups') === 'y',
    // Without the scope it is checked and then ignored, as by Kubo.
    entityBytes: scope === 'entity' ? entityBytes : undefined,
  }
}

function refuseUnless(supported: readonly string[], value: string | undefined, refused: string): void {
  if (value === undefined || supported.includes(value)) return
  throw new GatewayError('bad-parameter', `unsupported ${refused}`)
}

function parseEntityBytes(text: string): CarRequest['entityBytes'] {
  const [, fromText = '', toText = ''] = /^(-?[0-9]{1,15}):(-?[0-9]{1,15}|\*)$/.exec(text) ?? []
  const from = Number(fromText)
  const to = toText === '*' ? undefined : Number(toText)
  const sameSide = to !== undefined && from < 0 === to < 0
  if (fromText === '' || (sameSide && to < from)) {
    throw new GatewayError('bad-parameter', 'entity-bytes: expected from:to or from:*, from before to')
  }
  return { from, to }
}

function locationOf(type: GatewayType, query: URLSearchParams): string {
  const params = new URLSearchParams(query)
  const format = [...FORMAT_PARAMETERS].find(([, name]) => name === type.name)?.[0] ?? ''
  params.set('format', format)
  for (const name of ['version', 'order', 'dups']) {
    const value = type.parameters.get(name)
    if (value !== undefined && !params.has(`car-${name}`)) params.set(`car-${name}`, value)
  }
  params.sort()
  return params.toString()
}
