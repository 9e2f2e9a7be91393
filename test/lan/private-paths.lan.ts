import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { buffer, text } from 'node:stream/consumers'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { rawCid, sha256 } from '../../src/dag/cid.ts'
import { createPlanner } from '../../src/dag/planner.ts'
import { LEAF_BYTES } from '../../src/dag/profile.ts'
import { formatPublicKey, formatSecretKey, generateSecretKey } from '../../src/nix/key.ts'
import { parseNarInfo } from '../../src/nix/narinfo.ts'
import type { NarInfo } from '../../src/nix/narinfo.ts'
import { hashPartOf } from '../../src/nix/store-path.ts'
import { openStage } from '../e2e/kit/stage.ts'
import { makeClosure, openNixWith } from './kit/closure.ts'
import { openLan } from './kit/lan.ts'
import { openMachine } from './kit/machine.ts'
import { call } from './kit/namespace.ts'
import { untilFound } from './kit/neighbours.ts'
import { skipWithoutLan } from './kit/skip.ts'

const STORE_DIR = '/nix/store'
const OWN = fileURLToPath(new URL('kit/own.nix', import.meta.url))
const BITSWAP = fileURLToPath(new URL('kit/bitswap-child.ts', import.meta.url))

/** A path, by every name that it can be asked for. */
interface Known {
  readonly info: NarInfo
  /** Its root first, then its leaves. */
  readonly cids: readonly string[]
}

/** @param dir a binary cache without compression */
async function readCache(dir: string): Promise<Known[]> {
  const files = (await readdir(dir)).filter((name) => name.endsWith('.narinfo'))
  return Promise.all(
    files.map(async (file) => {
      const info = parseNarInfo(await readFile(join(dir, file), 'utf8'), STORE_DIR)
      const nar = await readFile(join(dir, info.url))
      const planner = createPlanner()
      planner.update(nar)
      const leaves = Array.from({ length: Math.ceil(nar.length / LEAF_BYTES) }, (_, at) =>
        rawCid(sha256(nar.subarray(at * LEAF_BYTES, (at + 1) * LEAF_BYTES))).toString(),
      )
      return { info, cids: [...new Set([planner.finish().root.toString(), ...leaves])] }
    }),
  )
}

interface Question {
  readonly path: string
  readonly method: 'GET' | 'HEAD'
  readonly headers: Record<string, string>
}

function questionsFor({ info, cids }: Known): Question[] {
  const hashPart = hashPartOf(info.storePath)
  const nar = `nar/${info.narHash}.nar`
  const paths = [
    `${hashPart}.narinfo`,
    `${hashPart}.ls`,
    nar,
    ...['raw', 'car'].flatMap((format) => cids.map((cid) => `ipfs/${cid}?format=${format}`)),
  ]
  const plain = paths.flatMap((path) =>
    (['GET', 'HEAD'] as const).map((method) => ({ path, method, headers: {} })),
  )
  const [root = ''] = cids
  return [
    ...plain,
    { path: nar, method: 'GET', headers: { range: 'bytes=0-99' } },
    { path: nar, method: 'GET', headers: { range: 'bytes=-1' } },
    { path: `ipfs/${root}`, method: 'GET', headers: { accept: 'application/vnd.ipld.raw' } },
    { path: `ipfs/${root}`, method: 'GET', headers: { accept: 'application/vnd.ipld.car' } },
  ]
}

/** What might tell a list, here or elsewhere; the first is the empty one. */
const LISTS = `
  nix-cache-info nar nar/ log/ realisations/ build-trace-v2/ debuginfo/ ipfs ipfs/ ipns/ feed feed/ feed/main index.html
  store-paths store-paths.xz robots.txt status api api/ api/v1 api/v1/status api/v1/peers metrics healthz readyz version
  pubkey api/v0/refs/local api/v0/pin/ls api/v0/repo/ls routing/v1/providers debug peers neighbours`.split(
  /\s+/,
)

test(
  'what no share key signed cannot be had by any route, and nothing lists what there is',
  { skip: skipWithoutLan() },
  async (t) => {
    const stage = await openStage(t)
    const lan = await openLan(stage)
    const closure = await makeClosure(stage, 'shared', [3_000_000, 1_000])
    const hostA = await lan.addHost('a')
    const nix = await openNixWith(stage, hostA, closure)
    const secret = generateSecretKey('home-1', randomBytes)
    const secretFile = join(stage.dir, 'secret-key')
    await writeFile(secretFile, formatSecretKey(secret), { mode: 0o600 })
    const homeKey = formatPublicKey(secret.publicKey)
    const unsigned = await nix.build(OWN, 'unsigned')
    const signed = await nix.build(OWN, 'signed', ['--option', 'secret-key-files', secretFile])
    const own = join(stage.dir, 'own')
    await nix.copyTo(`file://${own}?compression=none`, [unsigned, signed])
    const ours = await readCache(own)
    const shared = await readCache(closure.dir)
    assert.equal(ours.length, 6)
    assert.deepEqual(
      ours
        .filter(({ info }) => info.signatures.length > 0)
        .map(({ info }) => info.storePath.slice(33))
        .toSorted(),
      ['signed-program', 'signed-small'],
    )

    const trust = { keys: [closure.publicKey, homeKey] }
    const a = await openMachine(stage, hostA, { publicKey: closure.publicKey, nix, settings: { trust } })
    const b = await openMachine(stage, await lan.addHost('b'), {
      publicKey: closure.publicKey,
      settings: { trust },
    })
    await untilFound(b, 1, stage.signal)
    const ask = ({ path, ...options }: Question): ReturnType<typeof hostA.get> =>
      b.host.get(`${a.peerUrl}/${path}`, options)
    // A's own Nix has had all of it from A's narswarm.
    for (const { info } of ours) {
      const narInfo = await hostA.get(`${a.url}/${hashPartOf(info.storePath)}.narinfo`)
      if (narInfo.statusCode === 200) await buffer(await hostA.get(`${a.url}/nar/${info.narHash}.nar`))
      narInfo.resume()
    }

    for (const known of ours) {
      await t.test(`none of ${known.info.storePath.slice(33)}`, async () => {
        for (const question of questionsFor(known)) {
          const answer = await ask(question)
          const { length } = await buffer(answer)
          assert.deepEqual([question.path, answer.statusCode], [question.path, 404])
          assert.ok(length < 100, `${length} bytes came with it`)
        }
      })
    }

    await t.test('what it may have it can have by all of these', async () => {
      // Listings are for a machine's own Nix.
      for (const question of shared.flatMap(questionsFor).filter(({ path }) => !path.endsWith('.ls'))) {
        const answer = await ask(question)
        await buffer(answer)
        assert.ok([200, 206].includes(answer.statusCode ?? 0), `${question.path}: ${answer.statusCode}`)
      }
    })

    await t.test('nor by bitswap', async () => {
      const { swarm } = await a.narswarm.status()
      const address = swarm?.addrs.find((one) => one.includes(hostA.address))
      const cids = [...shared, ...ours].flatMap((known) => known.cids)
      const args = [BITSWAP, JSON.stringify({ address, cids })]
      const had = JSON.parse(await call(...b.host.place(process.execPath, args))) as boolean[]
      const mayHave = new Set(shared.flatMap((known) => known.cids))
      assert.deepEqual(
        had,
        cids.map((cid) => mayHave.has(cid)),
      )
    })

    await t.test('nor by its narswarm', async () => {
      for (const path of [unsigned, signed]) {
        const { ok } = await b.realise([path], { url: b.url, publicKey: trust.keys.join(' ') })
        assert.equal(ok, false)
      }
      await b.install([closure.top])
      assert.equal(b.validPaths().length, closure.nars.length)
    })

    await t.test('no request lists what there is', async () => {
      const secrets = [...ours, ...shared].flatMap(({ info, cids }) => [
        hashPartOf(info.storePath),
        info.storePath.slice(33),
        info.narHash,
        ...cids,
      ])
      for (const path of LISTS) {
        for (const accept of ['*/*', 'application/json', 'text/html']) {
          const body = await text(await ask({ path, method: 'GET', headers: { accept } }))
          assert.deepEqual(
            secrets.filter((one) => body.includes(one)),
            [],
            `/${path} tells of them`,
          )
        }
      }
    })

    await t.test('the doors for its own user are closed to others', async () => {
      const { port } = new URL(a.url)
      await assert.rejects(b.host.get(`http://${hostA.address}:${port}/nix-cache-info`), /ECONNREFUSED/)
    })
    await b.narswarm.stop()
    await a.narswarm.stop()
  },
)
