/** Real parts, held in memory: what the apps compose, without disk and network. */
import { once } from 'node:events'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import type { TestContext } from 'node:test'
import type { CID } from 'multiformats/cid'
import { createPlanner } from '../../src/dag/planner.ts'
import type { NarPlan } from '../../src/dag/planner.ts'
import { LEAF_BYTES } from '../../src/dag/profile.ts'
import { rawCid } from '../../src/dag/cid.ts'
import { createCacheApp } from '../../src/http/cache-app.ts'
import type { CacheAppDeps } from '../../src/http/cache-app.ts'
import { createPeerBudgets } from '../../src/http/peer-budgets.ts'
import { createLeafCoder } from '../../src/http/leaf-coder.ts'
import { createPeerApp } from '../../src/http/peer-app.ts'
import type { PeerAppDeps } from '../../src/http/peer-app.ts'
import { listen } from '../../src/http/server.ts'
import type { Listener } from '../../src/http/server.ts'
import { fingerprint } from '../../src/nix/fingerprint.ts'
import type { NarHash } from '../../src/nix/hash.ts'
import { generateSecretKey, trustedKeys } from '../../src/nix/key.ts'
import { formatNarInfo } from '../../src/nix/narinfo.ts'
import { sign } from '../../src/nix/signature.ts'
import { hashPartOf, parseStorePathBaseName } from '../../src/nix/store-path.ts'
import type { HashPart } from '../../src/nix/store-path.ts'
import type { ByteRange, CallOptions, SourceId } from '../../src/source.ts'
import type { LentBlock, LocalBlocks } from '../../src/spool/local-blocks.ts'
import { createWireCount } from '../../src/operations/wire-count.ts'
import { createPolicy } from '../../src/substitute/policy.ts'
import type { VerifiedNarInfo } from '../../src/substitute/policy.ts'
import { createSharedLine, createUpload } from '../../src/swarm/upload.ts'
import { STATUS } from '../cli/kit.ts'
import { recordingLog } from '../kit/log.ts'

export const STORE_DIR = '/nix/store'
export const HASH_PART = '7c5zrpajq5ydlg2zbbnfs1l4lwbxsdqq' as HashPart
export const CACHE_CONFIG = {
  storeDir: STORE_DIR,
  priority: 30,
  allowedHosts: ['127.0.0.1', 'cache.test:6277'],
  version: '0.0.0-test',
}
/** Of `app.request()`. */
export const ORIGIN = 'http://cache.test:6277'

export interface TestNar {
  readonly bytes: Uint8Array
  readonly plan: NarPlan
  readonly info: VerifiedNarInfo
}

/** Bytes with a period of 251, so that no two leaves are equal and a shifted answer is noticed. */
export function pattern(size: number): Uint8Array {
  return Buffer.alloc(
    size,
    Uint8Array.from({ length: 251 }, (_, i) => i),
  )
}

/** A NAR with a genuine signature by a key of the test's own. */
export function testNar(bytes: Uint8Array): TestNar {
  const key = generateSecretKey('http-test-1', (n) => new Uint8Array(n).fill(3))
  const planner = createPlanner()
  planner.update(bytes)
  const plan = planner.finish()
  const fields = {
    storePath: parseStorePathBaseName(`${HASH_PART}-sample-1.0`),
    narHash: plan.narHash,
    narSize: plan.narSize,
    references: [],
  }
  const policy = createPolicy({ keys: trustedKeys([key.publicKey]), threshold: 1, storeDir: STORE_DIR })
  const info = policy.verify({
    ...fields,
    url: 'nar/somewhere-else.nar.xz',
    compression: 'xz',
    signatures: [sign(key, fingerprint(fields, STORE_DIR))],
    cid: plan.root.toString(),
  })
  return { bytes, plan, info }
}

/** Chunks of 64 KiB, as a disk would give them. */
export async function* chunksOf(
  bytes: Uint8Array,
  range: ByteRange,
): AsyncGenerator<Uint8Array, void, undefined> {
  for (let at = range.start; at < range.end; at += 65_536) {
    await Promise.resolve()
    yield bytes.subarray(at, Math.min(at + 65_536, range.end))
  }
}

export async function* failing(reason: Error): AsyncGenerator<Uint8Array, void, undefined> {
  yield await Promise.reject(reason)
}

export type ReadNar = (range: ByteRange, options: CallOptions) => AsyncIterable<Uint8Array>

/** A cache app that holds one NAR; `changes` replaces parts of what it composes. */
export function testCache(
  nar: TestNar,
  changes: Partial<CacheAppDeps> & { read?: ReadNar; from?: SourceId | undefined } = {},
) {
  const log = recordingLog()
  /** What the app asked of its parts, in order. */
  const asked: string[] = []
  const read: ReadNar = changes.read ?? ((range) => chunksOf(nar.bytes, range))
  const deps: CacheAppDeps = {
    resolver: {
      byHashPart(hashPart) {
        asked.push(`narinfo ${hashPart}`)
        return Promise.resolve(hashPart === hashPartOf(nar.info.storePath) ? nar.info : undefined)
      },
      byNarHash(narHash: NarHash) {
        asked.push(`nar ${narHash}`)
        return Promise.resolve(narHash === nar.info.narHash ? nar.info : undefined)
      },
    },
    transfers: {
      hint: (info) => void asked.push(`hint ${info.storePath}`),
      open(info, range) {
        asked.push(`open ${range?.start ?? 0}-${range?.end ?? info.narSize}`)
        return Promise.resolve({
          narSize: info.narSize,
          verifiedTo: info.narSize,
          from: 'from' in changes ? changes.from : 'spool',
          done: Promise.resolve(),
          read,
        })
      },
    },
    lister: {
      list(info) {
        asked.push(`list ${info.storePath}`)
        return Promise.resolve(undefined)
      },
    },
    upstreams: [],
    formatAnswer: (info) => formatNarInfo(info, STORE_DIR),
    status: async () => ({ profile: 'private' }),
    metrics: async () => ({ status: STATUS, peers: { version: 1, peers: [] } }),
    notReady: () => undefined,
    page: () => ({ profile: 'private', upstreams: [], trustedKeys: [], facts: [] }),
    log,
    ...changes,
  }
  return { app: createCacheApp(deps, CACHE_CONFIG), log, asked }
}

/** All blocks of the NARs, leaves and nodes, as the blocks that may be shared. */
export function testBlocks(
  nars: readonly TestNar[],
): LocalBlocks & { readonly blocks: Map<string, Uint8Array> } {
  const blocks = new Map<string, Uint8Array>()
  for (const { bytes, plan } of nars) {
    for (const { cid, bytes: node } of plan.nodes) blocks.set(cid.toString(), node)
    for (let i = 0; i * 32 < plan.leaves.length; i++) {
      const cid = rawCid(plan.leaves.subarray(i * 32, i * 32 + 32))
      blocks.set(cid.toString(), bytes.subarray(i * LEAF_BYTES, (i + 1) * LEAF_BYTES))
    }
  }
  // Spoilt as soon as it is given back: who sends it later sends rubbish.
  const lend = (cid: CID): Promise<LentBlock | undefined> => {
    const found = blocks.get(cid.toString())
    // Not slice(): a Buffer's shares its memory.
    const bytes = found && Uint8Array.from(found)
    return Promise.resolve(bytes && { bytes, release: () => void bytes.fill(0xee) })
  }
  return {
    blocks,
    get: (cid: CID) => Promise.resolve(blocks.get(cid.toString())),
    lend,
    lendLeaf: ({ cid }) => lend(cid),
    async *readProved() {},
    size: (cid: CID) => blocks.get(cid.toString())?.byteLength,
  }
}

/** On loopback with a port of its own, closed after the test. */
export async function serve(
  t: TestContext,
  app: Parameters<typeof listen>[0],
): Promise<{ listener: Listener; port: number; log: ReturnType<typeof recordingLog> }> {
  const log = recordingLog()
  const listener = await listen(app, { host: '127.0.0.1', port: 0 }, { log })
  t.after(() => listener.close(0))
  return { listener, port: 'port' in listener.address ? listener.address.port : 0, log }
}

/** What a peer listener has beside its content, when nobody overloads it and nothing is on its way. */
export function openGate(): Pick<PeerAppDeps, 'budgets' | 'upload' | 'coder' | 'given' | 'underWay'> {
  return {
    budgets: createPeerBudgets({ clock: () => performance.now(), log: recordingLog() }),
    upload: createUpload(createSharedLine(undefined)),
    coder: createLeafCoder(),
    given: createWireCount(),
    underWay: { open: () => Promise.resolve(undefined) },
  }
}

/** A peer app that holds these NARs and their blocks; `changes` replaces parts of what it composes. */
export function testPeer(nars: readonly TestNar[], changes: Partial<PeerAppDeps> = {}) {
  const log = recordingLog()
  const deps: PeerAppDeps = {
    holdings: {
      narInfo: (hashPart) => nars.find(({ info }) => hashPartOf(info.storePath) === hashPart)?.info,
      openNar(narHash) {
        const nar = nars.find(({ plan }) => plan.narHash === narHash)
        return nar && { narSize: nar.plan.narSize, read: (range) => chunksOf(nar.bytes, range) }
      },
      narSizeOf: (root) => nars.find(({ plan }) => plan.root.equals(root))?.plan.narSize,
    },
    blocks: testBlocks(nars),
    feeds: { read: () => Promise.resolve(undefined) },
    formatAnswer: (info) => formatNarInfo(info, STORE_DIR),
    ...openGate(),
    log,
    ...changes,
  }
  return { app: createPeerApp(deps, CACHE_CONFIG), log }
}

export interface RawClient {
  readonly socket: Socket
  /** All that came until the server closed, as latin1: one character a byte. */
  readonly all: Promise<string>
  /** Resolves when what came so far contains the text. */
  until(text: string): Promise<string>
}

export async function rawClient(t: TestContext, port: number): Promise<RawClient> {
  const socket = connect({ host: '127.0.0.1', port })
  t.after(() => socket.destroy())
  const parts: Buffer[] = []
  const text = () => Buffer.concat(parts).toString('latin1')
  socket.on('data', (part: Buffer) => parts.push(part))
  // A cut is what many of these tests are about; it shows in what came.
  socket.on('error', () => {})
  const all = once(socket, 'close').then(text, text)
  await once(socket, 'connect')
  return {
    socket,
    all,
    async until(wanted) {
      while (!text().includes(wanted)) await once(socket, 'data')
      return text()
    },
  }
}

/** Sends the bytes as they are and takes all until the server closes. */
export async function exchange(t: TestContext, port: number, request: string): Promise<string> {
  const client = await rawClient(t, port)
  client.socket.write(Buffer.from(request, 'latin1'))
  return client.all
}

/** A GET that ends the connection, so that `exchange` comes back. */
export function getRequest(port: number, target: string, headers: readonly string[] = []): string {
  return [`GET ${target} HTTP/1.1`, `Host: 127.0.0.1:${port}`, 'Connection: close', ...headers, '', ''].join(
    '\r\n',
  )
}

export function statusOf(response: string): number | undefined {
  const [, status] = /^HTTP\/1\.1 ([0-9]{3})/.exec(response) ?? []
  return status === undefined ? undefined : Number(status)
}

export function bodyOf(response: string): string {
  return response.slice(response.indexOf('\r\n\r\n') + 4)
}

/** Those of a GET that its HEAD has, too: where bytes come from is known once they come (RFC 9110, 9.3.2). */
export function headKnown(headers: Headers): [name: string, value: string][] {
  return [...headers].filter(([name]) => name !== 'x-narswarm-source')
}
