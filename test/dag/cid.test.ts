import assert from 'node:assert/strict'
import { test } from 'node:test'
import { base32 } from 'multiformats/bases/base32'
import { base58btc } from 'multiformats/bases/base58'
import { CID } from 'multiformats/cid'
import { create } from 'multiformats/hashes/digest'
import * as fc from 'fast-check'
import {
  blockMatches,
  checkCid,
  CidError,
  decodeCid,
  nodeCid,
  parseCid,
  rawCid,
  sha256,
} from '../../src/dag/cid.ts'
import { skipWithoutVectors } from '../kit/vectors.ts'
import { goldenCids } from './golden.ts'

const bytes = Buffer.from('a block')
const digest = sha256(bytes)
const raw = rawCid(digest)

test('CIDs go to text and bytes and back', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), fc.boolean(), (digest, leaf) => {
      const cid = leaf ? rawCid(digest) : nodeCid(digest)
      assert.ok(parseCid(cid.toString()).equals(cid))
      assert.ok(decodeCid(cid.bytes).equals(cid))
      assert.equal(checkCid(cid), cid)
    }),
  )
})

test('every golden CID of Kubo is one of ours', { skip: skipWithoutVectors() }, () => {
  for (const { cid } of goldenCids()) assert.equal(parseCid(cid).toString(), cid)
})

test('F8, F9 text that is no CID of ours is refused', async (t) => {
  const cidText = raw.toString()
  const code = (prefix: string, digest: Uint8Array): string =>
    base32.encode(Buffer.concat([Buffer.from(prefix, 'hex'), digest]))
  const alphabet = 'abcdefghijklmnopqrstuvwxyz234567'
  const last = alphabet.indexOf(cidText.at(-1) ?? '')
  const table: [title: string, text: string][] = [
    ['nothing', ''],
    ['a gateway probe, the empty identity CID', 'bafkqaaa'],
    ['identity CID of 32 bytes', code('01550020', digest)],
    [
      'identity CID of 500 KB',
      code('0155', Buffer.concat([Buffer.from('00a0c21e', 'hex'), Buffer.alloc(500_000)])),
    ],
    ['sha1', code('01551114', digest.subarray(0, 20))],
    ['blake3', code('01551e20', digest)],
    ['sha2-512 cut to 32 bytes', code('01551320', digest)],
    ['sha2-256 cut to 20 bytes', code('01551214', digest.subarray(0, 20))],
    ['murmur3-x64-64', code('01552208', digest.subarray(0, 8))],
    ['dag-cbor', code('01711220', digest)],
    ['libp2p-key', code('01721220', digest)],
    ['version 2', code('02551220', digest)],
    ['an overlong varint', code('8100551220', digest)],
    ['a byte more', code('01551220', Buffer.concat([digest, Buffer.of(0)]))],
    ['a byte less', code('01551220', digest.subarray(1))],
    ['CIDv0', nodeCid(digest).toV0().toString()],
    ['base58btc', raw.toString(base58btc)],
    ['upper case', `B${cidText.slice(1).toUpperCase()}`],
    ['one upper case letter', `b${cidText.slice(1, 2).toUpperCase()}${cidText.slice(2)}`],
    ['non-zero padding bits', cidText.slice(0, -1) + (alphabet[last + 1] ?? '')],
    ['padding', `${cidText}=`],
    ['a path', `/ipfs/${cidText}`],
    ['a path below it', `${cidText}/x`],
    ['a URL', `ipfs://${cidText}`],
    ['a space after it', `${cidText} `],
    ['a newline after it', `${cidText}\n`],
    ['a newline in it', `${cidText.slice(0, -1)}\n`],
    ['NUL', `\0${cidText.slice(1)}`],
    ['letters that base32 has not', `${cidText.slice(0, -1)}1`],
  ]
  for (const [title, text] of table) {
    await t.test(title, () => {
      assert.throws(
        () => parseCid(text),
        (error) => error instanceof CidError && error.message.length < 300,
      )
    })
  }
})

test('F8, F9 CIDs that a library decoded are held to the same', async (t) => {
  const table: [title: string, cid: CID][] = [
    ['identity', CID.createV1(0x55, create(0, bytes))],
    ['identity of 32 bytes', CID.createV1(0x55, create(0, digest))],
    ['sha1', CID.createV1(0x55, create(0x11, digest.subarray(0, 20)))],
    ['blake3', CID.createV1(0x55, create(0x1e, digest))],
    ['sha2-256 cut to 20 bytes', CID.createV1(0x55, create(0x12, digest.subarray(0, 20)))],
    ['dag-cbor', CID.createV1(0x71, create(0x12, digest))],
    ['CIDv0', nodeCid(digest).toV0()],
  ]
  for (const [title, cid] of table) {
    await t.test(title, () => {
      assert.throws(() => checkCid(cid), CidError)
      assert.throws(() => decodeCid(cid.bytes), CidError)
    })
  }
})

test('a block matches its digest, whatever its codec', () => {
  assert.ok(blockMatches(raw, bytes))
  assert.ok(blockMatches(nodeCid(digest), bytes))
  assert.ok(!blockMatches(raw, Buffer.from('a blocj')))
  assert.ok(!blockMatches(raw, Buffer.alloc(0)))
})

test('a digest is never compared with one of another hash', () => {
  assert.ok(!blockMatches(CID.createV1(0x55, create(0x16, digest)), bytes))
  assert.ok(!blockMatches(CID.createV1(0x55, create(0x12, digest.subarray(0, 20))), bytes))
})

test('a CID of another copy of multiformats is as good', () => {
  const { version, code, multihash } = raw
  const foreign = { version, code, multihash, bytes: raw.bytes, '/': raw.bytes } as unknown as CID
  assert.equal(checkCid(foreign), foreign)
  assert.ok(raw.equals(foreign))
  assert.ok(blockMatches(foreign, bytes))
})

test('a digest of another length makes no CID', () => {
  assert.throws(() => rawCid(digest.subarray(0, 20)), RangeError)
  assert.throws(() => nodeCid(Buffer.concat([digest, digest])), RangeError)
})
