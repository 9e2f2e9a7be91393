/** What may not leave this machine leaves it by no door; a whole narswarm over a real Nix store, asked by a stranger. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import type { TestContext } from 'node:test'
import { test } from 'node:test'
import type { CID } from 'multiformats/cid'
import type { Serving } from '../../src/cli/node.ts'
import { loadConfig } from '../../src/config/load.ts'
import { rawCid } from '../../src/dag/cid.ts'
import type { NarPlan } from '../../src/dag/planner.ts'
import { BLOCK_MAX_BYTES } from '../../src/limits.ts'
import { fingerprint } from '../../src/nix/fingerprint.ts'
import { formatPublicKey } from '../../src/nix/key.ts'
import type { SecretKey } from '../../src/nix/key.ts'
import { formatSignature, sign } from '../../src/nix/signature.ts'
import { hashPartOf } from '../../src/nix/store-path.ts'
import type { StorePath } from '../../src/nix/store-path.ts'
import { SourceMissError } from '../../src/source.ts'
import { ALONG_HEADER } from '../../src/swarm/along-wire.ts'
import type { SwarmNode } from '../../src/swarm/node.ts'
import { openNode } from '../../src/wiring/node.ts'
import { recordingLog } from '../kit/log.ts'
import { skipWithoutNix } from '../kit/nix.ts'
import { tempDir } from '../kit/temp.ts'
import { STORE_DIR } from '../nix/genuine.ts'
import { sampleKey } from '../nix/sample.ts'
import { options, planOf } from '../spool/kit.ts'
import { infoOf, realStore } from '../store/real-store.ts'
import { ABSENT, askingNode } from '../swarm/peers.ts'

const skip = skipWithoutNix()
const SHARE_KEY = sampleKey('share-1', 1)
/** Of a cache whose packages may be installed here and not given away. */
const COMPANY_KEY = sampleKey('company-1', 2)

interface Held {
  readonly path: StorePath
  readonly plan: NarPlan
}

/** A NAR of one leaf, whose CID is its NarHash, and one of several. */
const SIZES = [5_000, 2_500_000]
const KINDS: Record<string, readonly SecretKey[]> = {
  shared: [SHARE_KEY],
  unsigned: [],
  company: [COMPANY_KEY],
  denied: [SHARE_KEY, COMPANY_KEY],
}

async function machine(t: TestContext) {
  const nix = await realStore(t)
  const stateDir = await tempDir(t)
  const held: Record<string, Held[]> = {}
  const store = nix.open()
  const db = new DatabaseSync(nix.database)
  for (const [kind, keys] of Object.entries(KINDS)) {
    held[kind] = []
    for (const size of SIZES) {
      const source = join(nix.sources, `${kind}-${size}`)
      await writeFile(source, randomBytes(size))
      const path = nix.add(source)
      const text = fingerprint(infoOf(store, path), STORE_DIR)
      db.prepare('UPDATE ValidPaths SET sigs = ?, ca = NULL WHERE path = ?').run(
        keys.map((key) => formatSignature(sign(key, text))).join(' '),
        `${STORE_DIR}/${path}`,
      )
      held[kind].push({ path, plan: planOf(nix.dump(path)) })
    }
  }
  db.close()
  return {
    held: (kind: string): Held[] => held[kind] ?? [],
    /** Until it is closed, or the test ends. */
    start: async (share: string): Promise<Serving & { close(): Promise<void> }> => {
      const text = `
        profile = "pool"
        store_root = "${nix.root}"
        state_dir = "${stateDir}"
        upstreams = []
        cache.listen = "127.0.0.1:0"
        peer.listen = "127.0.0.1:0"
        swarm.listen = ["/ip4/127.0.0.1/tcp/0"]
        trust.keys = ["${formatPublicKey(COMPANY_KEY.publicKey)}", "${formatPublicKey(SHARE_KEY.publicKey)}"]
        share.keys = ["${formatPublicKey(SHARE_KEY.publicKey)}"]
        ${share}`
      const config = loadConfig({
        file: '/c',
        env: {},
        isRoot: false,
        read: (path) => (path === '/c' ? text : undefined),
      })
      const node = await openNode(config, '0.0.0-test', { log: recordingLog() })
      let closed: Promise<void> | undefined
      const close = () => (closed ??= node.close(0))
      t.after(close)
      return { ...(await node.serve()), close }
    },
  }
}

function blocksOf({ leaves, nodes, root }: NarPlan): CID[] {
  const cids = nodes.map(({ cid }) => cid)
  for (let at = 0; at < leaves.length; at += 32) cids.push(rawCid(leaves.subarray(at, at + 32)))
  return [root, ...cids]
}

/** Each way to ask for something of a path. */
function* requestsFor({ path, plan }: Held): Generator<[target: string, init: RequestInit]> {
  const targets = [`${hashPartOf(path)}.narinfo`, `nar/${plan.narHash}.nar`]
  for (const cid of blocksOf(plan)) {
    for (const format of ['raw', 'car', 'car&dag-scope=block']) {
      targets.push(`ipfs/${cid.toString()}?format=${format}`)
    }
  }
  for (const target of targets) {
    for (const method of ['GET', 'HEAD']) {
      yield [target, { method }]
      yield [target, { method, headers: { Range: 'bytes=0-99' } }]
    }
  }
  for (const type of ['application/vnd.ipld.raw', 'application/vnd.ipld.car']) {
    yield [`ipfs/${plan.root.toString()}`, { headers: { Accept: type } }]
  }
  yield [
    `ipfs/${plan.root.toString()}?format=raw`,
    { headers: { 'If-None-Match': `"${plan.root.toString()}.raw"` } },
  ]
  yield [`nar/${plan.narHash}.nar`, { headers: { 'If-None-Match': `"${plan.narHash}"` } }]
  yield [`nar/${plan.narHash}.nar`, { headers: { [ALONG_HEADER]: 'begun=50, expected=50' } }]
}

async function askPeer({ peerUrl }: Serving, target: string, init: RequestInit = {}): Promise<Response> {
  return fetch(`${peerUrl}/${target}`, { ...init, signal: AbortSignal.timeout(10_000) })
}

/** That no door gives any of it: those of HTTP, and bitswap. */
async function assertNotGiven(stranger: SwarmNode, node: Serving, held: readonly Held[]): Promise<void> {
  const source = stranger.bitswapSource(node.swarm?.addrs[0] ?? '')
  for (const one of held) {
    for (const [target, init] of requestsFor(one)) {
      const answer = await askPeer(node, target, init)
      assert.equal(answer.status, 404, `${one.path}: ${init.method ?? 'GET'} ${target}`)
      assert.doesNotMatch(await answer.text(), new RegExp(one.path.slice(33)))
    }
    for (const cid of blocksOf(one.plan)) {
      await assert.rejects(source.fetch({ cid, maxBytes: BLOCK_MAX_BYTES }, options), SourceMissError)
    }
  }
}

/** That each of them is to be had: narinfo, NAR, each block as such and over bitswap. */
async function assertGiven(stranger: SwarmNode, node: Serving, held: readonly Held[]): Promise<void> {
  const source = stranger.bitswapSource(node.swarm?.addrs[0] ?? '')
  for (const { path, plan } of held) {
    assert.equal((await askPeer(node, `${hashPartOf(path)}.narinfo`)).status, 200)
    const nar = await askPeer(node, `nar/${plan.narHash}.nar`)
    assert.deepEqual(planOf(Buffer.from(await nar.arrayBuffer())).root, plan.root)
    for (const cid of blocksOf(plan)) {
      assert.equal((await askPeer(node, `ipfs/${cid.toString()}?format=raw`)).status, 200)
      assert.ok((await source.fetch({ cid, maxBytes: BLOCK_MAX_BYTES }, options)).length > 0)
    }
  }
}

/** This machine's own Nix asks for it, so that narswarm knows it as well as it can. */
async function useHere({ cacheUrl }: Serving, held: readonly Held[]): Promise<void> {
  for (const { path, plan } of held) {
    await (await fetch(`${cacheUrl}/${hashPartOf(path)}.narinfo`)).text()
    await (await fetch(`${cacheUrl}/nar/${plan.narHash}.nar`)).arrayBuffer()
  }
}

test('what is unsigned, not by a share key, or denied leaves by no door', { skip }, async (t) => {
  const { held, start } = await machine(t)
  const stranger = await askingNode(t)
  const node = await start('share.deny = ["denied-*"]')
  for (const kind of Object.keys(KINDS)) await useHere(node, held(kind))
  for (const kind of ['unsigned', 'company', 'denied']) await assertNotGiven(stranger, node, held(kind))
  await assertGiven(stranger, node, held('shared'))
  await node.close()

  const denying = await start('share.deny = ["shared-5000"]')
  const [small, large] = held('shared')
  assert.ok(small !== undefined && large !== undefined)
  await assertNotGiven(stranger, denying, [small])
  await assertGiven(stranger, denying, [large, ...held('denied')])
  await denying.close()

  const leech = await start('share.upload = 0')
  assert.deepEqual([leech.peerUrl, leech.swarm?.addrs], [undefined, []])
})

const LISTINGS = [
  '',
  'index.html',
  '*.narinfo',
  '%2a.narinfo',
  'nar',
  'nar/',
  'nar/index.html',
  'nix-cache-info',
  'nix-cache-index',
  'store-paths',
  'store-paths.xz',
  'paths.json',
  'log/',
  'realisations/',
  'build-trace-v2/',
  'debuginfo/',
  'ipfs',
  'ipfs/',
  'ipfs/?format=car',
  'ipfs/bafkqaaa?format=raw',
  'ipfs/bafkqaaa?format=car',
  'ipns/',
  'feed',
  'feed/',
  'feed/narswarm.example.org/',
  'routing/v1/providers/',
  'api/v0/refs/local',
  'api/v0/pin/ls',
  'api/v0/repo/stat',
  'api/v1/status',
  'status',
  'version',
  'healthz',
  'readyz',
  'metrics',
  'admin',
  'publish',
  '.well-known/',
  'favicon.ico',
]

test('no route of the peer listener tells what is here', { skip }, async (t) => {
  const { held, start } = await machine(t)
  const node = await start('')
  await useHere(node, held('shared'))
  const secrets = held('shared').flatMap(({ path, plan }) => [
    hashPartOf(path),
    path.slice(33),
    plan.narHash,
    plan.root.toString(),
  ])
  for (const target of LISTINGS) {
    const answer = await askPeer(node, target)
    const body = await answer.text()
    const here = target === 'nix-cache-info' || target === 'ipfs/bafkqaaa?format=raw' ? 200 : undefined
    assert.ok(
      here === undefined ? answer.status >= 400 && answer.status < 500 : answer.status === here,
      target,
    )
    const told = [...answer.headers].join('\n') + body
    for (const secret of secrets) assert.ok(!told.includes(secret), `${target} tells ${secret}`)
  }
  assert.equal((await askPeer(node, `ipfs/${ABSENT.toString()}?format=car`)).status, 404)
  const stranger = await askingNode(t)
  const source = stranger.bitswapSource(node.swarm?.addrs[0] ?? '')
  await assert.rejects(source.fetch({ cid: ABSENT, maxBytes: BLOCK_MAX_BYTES }, options), SourceMissError)
})
