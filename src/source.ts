/**
 * What a source of narinfos, streams or blocks must offer to the heart (`substitute/`), and nothing of how it works.
 * Everything that comes out of a source is unchecked: policy checks narinfos, the scheduler checks leaves, the
 * transfer checks the NarHash.
 */
import type { CID } from 'multiformats/cid'
import type { NarHash } from './nix/hash.ts'
import type { NarInfo } from './nix/narinfo.ts'
import type { HashPart } from './nix/store-path.ts'

/** Kind and address, as the log and `status` show it: `spool`, `store`, `neighbour:12D3…`, `bitswap:12D3…`, `upstream:https://cache.nixos.org`. */
export type SourceId = string

const NEIGHBOUR = 'neighbour:'
const NARS = '/nar'

/** A neighbour is two sources: of narinfos and blocks, and of whole NARs, for paces of the two are not to be mixed. */
export function neighbourSources(name: string): { readonly blocks: SourceId; readonly nars: SourceId } {
  return { blocks: `${NEIGHBOUR}${name}`, nars: `${NEIGHBOUR}${name}${NARS}` }
}

/** The one of the two by which the neighbour is called, given either of them. */
export function neighbourOf(id: SourceId): SourceId {
  return id.endsWith(NARS) ? id.slice(0, -NARS.length) : id
}

/** Whether it is a neighbour's, whom nobody vouches for. */
export function isNeighbour(id: SourceId): boolean {
  return id.startsWith(NEIGHBOUR)
}

/**
 * What NARs are counted by: who gave the bytes, not how they travelled. `rewritten`: made of an older path; `local`: out of
 * other NARs that are here; `peer`: over HTTP; `swarm`: over bitswap.
 */
export const SOURCE_KINDS = [
  'spool',
  'store',
  'rewritten',
  'local',
  'neighbour',
  'peer',
  'swarm',
  'upstream',
] as const
export type SourceKind = (typeof SOURCE_KINDS)[number]

export function sourceKind(id: SourceId): SourceKind {
  const [prefix = ''] = id.split(':', 1)
  if (prefix === 'bitswap') return 'swarm'
  return SOURCE_KINDS.find((kind) => kind === prefix) ?? 'peer'
}

/** What a byte from there costs us: lower is asked first. */
export type Cost = (typeof COST)[keyof typeof COST]
export const COST = { local: 0, neighbour: 10, peer: 20, swarm: 30, upstream: 40 } as const

/** Every effect takes one; a source adds its own deadline only on top of it. */
export interface CallOptions {
  signal: AbortSignal
}

/** For who reads a NAR chunk by chunk. */
export interface ReadOptions extends CallOptions {
  /**
   * The reader is done with a chunk as soon as it asks for the second one after it; its buffer may then be filled anew.
   * Without it each chunk is the reader's for ever.
   */
  reuse?: boolean
}

/** Bytes `start` (inclusive) to `end` (exclusive) of a NAR. */
export interface ByteRange {
  start: number
  end: number
}

export interface NarRef {
  narHash: NarHash
  /** Bytes, as signed. */
  narSize: number
  /** Root of the DAG of profile `unixfs-v1-2025`, when somebody told it. Unproven until the NarHash is. */
  root?: CID
}

/** A block that is here: who has it too may send what differs from it. */
export interface OldBlock {
  /** Its SHA-256, which is its CID's. To name it is to say that we have it. */
  readonly digest: Uint8Array
  /** Its bytes, hashed, until `release`; undefined when it is not here any more. */
  lend(options: CallOptions): Promise<{ readonly bytes: Uint8Array; release(): void } | undefined>
}

export interface BlockRef {
  cid: CID
  /** A source gives up (SourceLieError) before it reads more than this. */
  maxBytes: number
  /** Byte of the NAR at which it begins, for a source that makes leaves by their place; absent for interior nodes. */
  offset?: number
  /**
   * At least `maxBytes` long: a source may put the block there and return that part of it. What else it writes there, such as
   * a block still coded, is its own business.
   */
  into?: Uint8Array
  /** Told of bytes on the wire as they come, coded or not, by sources that can: a block on a slow line is no silence. */
  onBytes?: (count: number) => void
  /** Told of bytes of the block itself: they lie in `into`, one after the other, and stay as they are. */
  onPlaced?: (count: number) => void
  /** A block much like this one, that may be named to others; it may have to be hashed first. */
  old?: (options: CallOptions) => OldBlock | undefined | Promise<OldBlock | undefined>
  /** It came as the difference from that one. */
  onDifference?: () => void
}

/** A narinfo as it was told: parsed, not yet believed. */
export interface NarInfoCandidate {
  info: NarInfo
  from: SourceId
  cid?: CID
  /** Gives the bytes of this very NAR, when whoever told the narinfo has them too. */
  stream?: StreamSource
}

export interface NarInfoSource {
  readonly id: SourceId
  readonly cost: Cost
  /** `undefined` is a miss, a throw is a failure of the source, SourceRestingError one that is known already. */
  lookup(hashPart: HashPart, options: CallOptions): Promise<NarInfoCandidate | undefined>
  /** Left alone for now: not worth a look-up. */
  readonly rests?: boolean
  /** A miss that others have said by then does not wait for its answer for longer; for all of the deadline when absent. */
  readonly waitMs?: number
}

/** One stream of a NAR's bytes, decompressed, in order, from any offset. */
export interface StreamSource {
  readonly id: SourceId
  readonly cost: Cost
  /** Among those that are alike otherwise lower is first: what a binary cache says of itself. */
  readonly priority?: number
  /** Milliseconds to its first byte that are no sign of trouble, where they say nothing about others; else it is as others are. */
  readonly firstByteMs?: number
  /** It passes on what it is getting itself, so that another way may lead to the same narrow line. */
  readonly isGrowing?: boolean
  open(nar: NarRef, from: number, options: OpenOptions): AsyncIterable<Uint8Array>
}

export interface OpenOptions extends CallOptions {
  /** For pieces, one each: the reader's own, who has them back with the pieces. What does not come in them is the reader's as well. */
  buffers?: PieceBuffers | undefined
}

/** Buffers to fill, all of one size. */
export interface PieceBuffers {
  /** Bytes of each. */
  readonly size: number
  /** With whatever was in it. */
  take(): Uint8Array
  /** One that was taken, or any view of it. Any other bytes stay their owner's. */
  give(bytes: Uint8Array): void
}

/** Single blocks by CID: leaves and interior nodes. */
export interface BlockSource {
  readonly id: SourceId
  readonly cost: Cost
  /**
   * @throws SourceMissError when it says that it does not have the block, SourceFaultError when it did not answer,
   * SourceRestingError while it is left alone, SourceLieError when the answer cannot be the block
   */
  fetch(block: BlockRef, options: CallOptions): Promise<Uint8Array>
  /** Whether it need not be asked, for it would miss. Absent where only asking tells. */
  lacks?(cid: CID): boolean
}

/** The source answered, and does not have it. No fault of its: ask the next, keep its score. */
export class SourceMissError extends Error {
  override readonly name = 'SourceMissError'
  readonly source: SourceId
  constructor(source: SourceId, message: string, options?: ErrorOptions) {
    super(message, options)
    this.source = source
  }
}

/** The source did not answer, or stopped answering: network, deadline, 5xx. Ask the next, lower its score. */
export class SourceFaultError extends Error {
  override readonly name = 'SourceFaultError'
  readonly source: SourceId
  constructor(source: SourceId, message: string, options?: ErrorOptions) {
    super(message, options)
    this.source = source
  }
}

/** The source is left alone for now: it failed too often lately, or asks for it itself. Ask the next; that is no fault of its. */
export class SourceRestingError extends Error {
  override readonly name = 'SourceRestingError'
  readonly source: SourceId
  constructor(source: SourceId, message: string, options?: ErrorOptions) {
    super(message, options)
    this.source = source
  }
}

/** The source gave bytes that cannot be what was asked for. It is out for this NAR. */
export class SourceLieError extends Error {
  override readonly name = 'SourceLieError'
  readonly source: SourceId
  constructor(source: SourceId, message: string, options?: ErrorOptions) {
    super(message, options)
    this.source = source
  }
}
