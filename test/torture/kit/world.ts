/** What is true: store paths with their NARs and signatures, made out of nothing. All that is served is held against it. */
import { createCipheriv, createHash } from 'node:crypto'
import { createPlanner } from '../../../src/dag/planner.ts'
import type { NarPlan } from '../../../src/dag/planner.ts'
import { fingerprint } from '../../../src/nix/fingerprint.ts'
import type { NarHash } from '../../../src/nix/hash.ts'
import { generateSecretKey } from '../../../src/nix/key.ts'
import type { PublicKey, SecretKey } from '../../../src/nix/key.ts'
import type { NarNode } from '../../../src/nix/nar-layout.ts'
import { encodeNix32 } from '../../../src/nix/nix32.ts'
import { sign } from '../../../src/nix/signature.ts'
import type { Signature } from '../../../src/nix/signature.ts'
import { hashPartOf, parseStorePathBaseName } from '../../../src/nix/store-path.ts'
import type { HashPart, StorePath } from '../../../src/nix/store-path.ts'
import { fileOf, narBytes } from '../../nix/nar-tree.ts'
import type { Contents, MemoryTree } from '../../nix/nar-tree.ts'
import type { Random } from './random.ts'

export const STORE_DIR = '/nix/store'

export interface TrueNar {
  readonly narHash: NarHash
  readonly bytes: Buffer
  readonly plan: NarPlan
}

export interface TruePath {
  readonly storePath: StorePath
  readonly hashPart: HashPart
  readonly nar: TrueNar
  readonly references: readonly StorePath[]
  readonly signature: Signature
}

/** In the Nix store of who is tortured, with another one of the same name in the caches. */
export interface OldPath extends TruePath {
  readonly tree: MemoryTree
}

export interface World {
  readonly key: SecretKey
  /** In caches and, as time goes by, in the feed of the peer. The older ones are among them. */
  readonly paths: readonly TruePath[]
  readonly older: readonly OldPath[]
  /** Small ones, for a feed that the narswarm under torture publishes itself. */
  readonly small: readonly TruePath[]
  readonly byHashPart: ReadonlyMap<HashPart, TruePath>
  readonly nars: ReadonlyMap<NarHash, TrueNar>
}

const NARS_COUNT = 40
const SMALL_COUNT = 400
const UPGRADES_COUNT = 12
const UPGRADE_SMALLEST_BYTES = 50_000
const UPGRADE_LARGEST_BYTES = 8_000_000
const SMALLEST_BYTES = 1
const LARGEST_BYTES = 20_000_000
/** First bytes of a sha256, as many as a store path's hash part has. */
const HASH_PART_BYTES = 20

export function makeWorld(random: Random): World {
  const key = generateSecretKey('torture-1', (length) => random.bytes(length))
  const nars = new Map<NarHash, TrueNar>()
  const makeNarOf = (size: number): TrueNar => {
    const nar = makeNar(size, random)
    nars.set(nar.narHash, nar)
    return nar
  }
  const older: OldPath[] = []
  const paths: TruePath[] = []
  for (let at = 0; at < UPGRADES_COUNT; at++) {
    const upgrade = makeUpgrade(`upgrade${at}-1.0`, at % 2 === 0, key, random)
    for (const { nar } of upgrade) nars.set(nar.narHash, nar)
    older.push(upgrade[0])
    paths.push(...upgrade)
  }
  for (let at = 0; at < NARS_COUNT; at++) {
    const size = at < 3 ? LARGEST_BYTES : random.magnitude(SMALLEST_BYTES, LARGEST_BYTES)
    const nar = makeNarOf(size)
    paths.push(makePath(`path-${at}`, nar, paths, key, random))
    if (at % 4 === 0) paths.push(makePath(`same-${at}`, nar, paths, key, random))
  }
  const small = Array.from({ length: SMALL_COUNT }, (_, at) =>
    makePath(`small-${at}`, makeNarOf(random.int(1, 2000)), [], key, random),
  )
  const byHashPart = new Map([...paths, ...small].map((path) => [path.hashPart, path]))
  return { key, paths, older, small, byHashPart, nars }
}

/** One path alone, with its key. */
export function makeTruth(random: Random, size: number): { key: PublicKey; path: TruePath } {
  const key = generateSecretKey('torture-1', (length) => random.bytes(length))
  return { key: key.publicKey, path: makePath('one', makeNar(size, random), [], key, random) }
}

function makeNar(size: number, random: Random): TrueNar {
  return narOf(makeTree(size, random))
}

function narOf(tree: MemoryTree): TrueNar {
  const bytes = narBytes(tree)
  const planner = createPlanner()
  planner.update(bytes)
  const plan = planner.finish()
  return { narHash: plan.narHash, bytes, plan }
}

/** @param earlier what it may refer to */
function makePath(
  name: string,
  nar: TrueNar,
  earlier: readonly TruePath[],
  key: SecretKey,
  random: Random,
): TruePath {
  const storePath = storePathNamed(name, random)
  const references = [...new Set(earlier.length === 0 ? [] : [random.pick(earlier), random.pick(earlier)])]
    .map((one) => one.storePath)
    .concat(random.chance(0.5) ? [storePath] : [])
  return signedPath(storePath, nar, references, key)
}

function storePathNamed(name: string, random: Random): StorePath {
  const digest = createHash('sha256').update(`${name} ${random.next()}`).digest()
  return parseStorePathBaseName(`${encodeNix32(digest.subarray(0, HASH_PART_BYTES))}-${name}`)
}

function signedPath(
  storePath: StorePath,
  nar: TrueNar,
  references: readonly StorePath[],
  key: SecretKey,
): TruePath {
  const signed = { storePath, narHash: nar.narHash, narSize: nar.bytes.length, references }
  const signature = sign(key, fingerprint(signed, STORE_DIR))
  return { storePath, hashPart: hashPartOf(storePath), nar, references, signature }
}

/**
 * A path that names itself, before and after it was built anew.
 *
 * @param isChanged in some of its bytes as well, not in the paths alone
 */
function makeUpgrade(
  name: string,
  isChanged: boolean,
  key: SecretKey,
  random: Random,
): [older: OldPath, newer: TruePath] {
  const [from, to] = [storePathNamed(name, random), storePathNamed(name, random)]
  const size = random.magnitude(UPGRADE_SMALLEST_BYTES, UPGRADE_LARGEST_BYTES)
  const { root, contents } = makeTree(size, random)
  const naming = (storePath: StorePath, edit: (bytes: Buffer) => void): MemoryTree => {
    const copies: Contents = new Map()
    for (const [path, bytes] of contents) {
      const copy = Buffer.from(bytes)
      for (let at = 100; at + storePath.length <= copy.length; at += NAMED_EVERY_BYTES) {
        copy.write(storePath, at, 'latin1')
      }
      edit(copy)
      copies.set(path, copy)
    }
    return { root, contents: copies }
  }
  const tree = naming(from, () => {})
  const after = naming(to, (bytes) => {
    if (isChanged && bytes.length > 0) bytes[bytes.length >> 1] = 0xff ^ (bytes[bytes.length >> 1] ?? 0)
  })
  return [{ ...signedPath(from, narOf(tree), [from], key), tree }, signedPath(to, narOf(after), [to], key)]
}

/** One file, or a folder of some: about `size` bytes of contents, half of which compress well. */
function makeTree(size: number, random: Random): { root: NarNode; contents: Contents } {
  const contents: Contents = new Map()
  if (random.chance(0.3)) return { root: fileOf(contents, makeContents(size, random)), contents }
  const count = random.int(1, 6)
  const entries = Array.from({ length: count }, (_, at) => ({
    name: Buffer.from(`file-${at}`),
    node: fileOf(contents, makeContents(Math.floor(size / count), random), at % 2 === 0),
  }))
  const link: NarNode = { type: 'symlink', target: Buffer.from('file-0') }
  const root: NarNode = {
    type: 'directory',
    entries: [...entries, { name: Buffer.from('link'), node: link }],
  }
  return { root, contents }
}

const RUN_BYTES = 50_000
const NAMED_EVERY_BYTES = 200_007

function makeContents(size: number, random: Random): Buffer {
  const cipher = createCipheriv('aes-128-ctr', random.bytes(16), Buffer.alloc(16))
  const noise = cipher.update(Buffer.alloc(size))
  const text = Buffer.from(`line ${random.int(0, 1e9)} of a text that compresses well\n`)
  for (let at = RUN_BYTES; at < size; at += 2 * RUN_BYTES)
    noise.fill(text, at, Math.min(size, at + RUN_BYTES))
  return noise
}
