/**
 * Bitswap 1.2.0 messages as bytes, length prefix included (specs.ipfs.tech/bitswap-protocol, message.proto of boxo).
 * Only writing: what comes in is read by Helia.
 *
 * Why not Helia's encoder: split-message.ts of @helia/bitswap 4.0.19 encodes a block two or three times only to learn
 * its size, then once more to send it. Here a block is never copied.
 */
import type { CID } from 'multiformats/cid'
import { varintBytes, writeVarint } from '../dag/varint.ts'

export interface WantEntry {
  readonly cid: CID
  /** Takes an earlier want back. */
  readonly cancel: boolean
}

export interface Presence {
  /** As the asker wrote it, CIDv0 included: it knows its wants by these bytes. */
  readonly cid: Uint8Array
  readonly have: boolean
}

const VARINT = 0
const BYTES = 2
/** boxo up to 0.34 panics on a message without a wantlist: an empty one is always there. */
const EMPTY_WANTLIST = Uint8Array.of((1 << 3) | BYTES, 0)
/** Version, codec, hash and digest length: a CIDv1 without its digest, one byte each for the CIDs of our profile. */
const PREFIX_BYTES = 4

export function encodeWants(entries: readonly WantEntry[]): Uint8Array {
  const wantlist = entries.map(({ cid, cancel }) =>
    field(1, [
      field(1, [cid.bytes]),
      number(2, 1),
      ...(cancel ? [number(3, 1)] : []),
      // WantBlock is the default of field 4. Field 5 asks for an answer when the block is not there.
      ...(cancel ? [] : [number(5, 1)]),
    ]),
  )
  return delimited([field(1, wantlist)])
}

export function encodePresences(presences: readonly Presence[]): Uint8Array {
  return delimited([
    EMPTY_WANTLIST,
    ...presences.map(({ cid, have }) => field(4, [field(1, [cid]), number(2, have ? 0 : 1)])),
  ])
}

/** What goes before the bytes of the block; they end the message. */
export function encodeBlockHead(cid: CID, blockBytes: number): Uint8Array {
  const prefix = field(1, [cid.bytes.subarray(0, PREFIX_BYTES)])
  const dataHead = head(2, BYTES, blockBytes)
  const blockHead = head(3, BYTES, prefix.byteLength + dataHead.byteLength + blockBytes)
  const parts = [EMPTY_WANTLIST, blockHead, prefix, dataHead]
  return Buffer.concat([varint(total(parts) + blockBytes), ...parts])
}

function field(tag: number, parts: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat([head(tag, BYTES, total(parts)), ...parts])
}

function number(tag: number, value: number): Uint8Array {
  return head(tag, VARINT, value)
}

/** Tag and the varint behind it: a length for bytes, the value for a number. */
function head(tag: number, wireType: number, value: number): Uint8Array {
  return Buffer.concat([Uint8Array.of((tag << 3) | wireType), varint(value)])
}

function delimited(parts: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat([varint(total(parts)), ...parts])
}

function varint(value: number): Uint8Array {
  const bytes = new Uint8Array(varintBytes(value))
  writeVarint(bytes, 0, value)
  return bytes
}

function total(parts: readonly Uint8Array[]): number {
  return parts.reduce((sum, part) => sum + part.byteLength, 0)
}
