/** Of which paths a neighbour hears, by `lan.ask`; a whole narswarm between an upstream and a neighbour. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { loadConfig } from '../../src/config/load.ts'
import { fingerprint } from '../../src/nix/fingerprint.ts'
import { formatPublicKey } from '../../src/nix/key.ts'
import type { SecretKey } from '../../src/nix/key.ts'
import type { NarInfo } from '../../src/nix/narinfo.ts'
import { sign } from '../../src/nix/signature.ts'
import { openNode } from '../../src/wiring/node.ts'
import { recordingLog } from '../kit/log.ts'
import { tempDir } from '../kit/temp.ts'
import { STORE_DIR } from '../nix/genuine.ts'
import { sampleKey } from '../nix/sample.ts'
import { noise, planOf } from '../spool/kit.ts'
import { blocksOf, MIB, narInfoOf, pathNamed } from '../substitute/kit.ts'
import { cacheFiles, gatewayFiles, narInfoFile, serveNear } from '../swarm/near-server.ts'

const SHARE_KEY = sampleKey('share-1', 1)
const COMPANY_KEY = sampleKey('company-1', 2)

/** Told with its CID, as a narswarm upstream does. */
function signedPath(name: string, key: SecretKey) {
  const nar = noise(2 * MIB, name)
  const { narHash, narSize, root } = planOf(nar)
  const bare: NarInfo = { ...narInfoOf({ narHash, narSize }, name), cid: root.toString(), signatures: [] }
  const info = { ...bare, signatures: [sign(key, fingerprint(bare, STORE_DIR))] }
  const files = new Map([...cacheFiles(info, nar), ...gatewayFiles(blocksOf(nar))])
  return { info, nar, files }
}

const open = signedPath('public-1.0', SHARE_KEY)
const company = signedPath('company-1.0', COMPANY_KEY)

async function machine(t: TestContext, ask: string) {
  const everything = new Map([...open.files, ...company.files])
  const upstream = await serveNear(t, new Map([...everything].filter(([path]) => !path.startsWith('ipfs/'))))
  const neighbour = await serveNear(
    t,
    new Map([...everything, ['ipfs/bafkqaaa?format=raw', new Uint8Array()]]),
  )
  const text = `
    store_root = "${await tempDir(t)}"
    state_dir = "${await tempDir(t)}"
    upstreams = ["${upstream.url.href}"]
    cache.listen = "127.0.0.1:0"
    peers.urls = ["${neighbour.url.href}"]
    lan.ask = "${ask}"
    trust.keys = ["${formatPublicKey(COMPANY_KEY.publicKey)}", "${formatPublicKey(SHARE_KEY.publicKey)}"]
    share.keys = ["${formatPublicKey(SHARE_KEY.publicKey)}"]`
  const read = (path: string): string | undefined => (path === '/c' ? text : undefined)
  const config = loadConfig({ file: '/c', env: {}, isRoot: false, read })
  const node = await openNode(config, '0.0.0-test', { log: recordingLog() })
  t.after(() => node.close(0))
  const { cacheUrl } = await node.serve()
  const get = async (path: string): Promise<Buffer | number> => {
    const answer = await fetch(new URL(path, cacheUrl))
    const body = Buffer.from(await answer.arrayBuffer())
    return answer.ok ? body : answer.status
  }
  return {
    get,
    /** What it heard beside the questions what it is. */
    heard: () => neighbour.asked.filter((path) => path !== 'nix-cache-info' && !path.includes('bafkqaaa')),
  }
}

void test('lan.ask = "known": of a path that is not public a neighbour hears nothing, by no route', async (t) => {
  const { get, heard } = await machine(t, 'known')
  assert.equal(await get(narInfoFile({ storePath: pathNamed('nowhere-1.0') })), 404)
  assert.ok((await get(narInfoFile(company.info))) instanceof Buffer)
  assert.deepEqual(await get(`nar/${company.info.narHash}.nar`), company.nar)
  assert.deepEqual(heard(), [])

  assert.ok((await get(narInfoFile(open.info))) instanceof Buffer)
  assert.deepEqual(await get(`nar/${open.info.narHash}.nar`), open.nar)
  const ours = new Set(open.files.keys())
  assert.ok(heard().length > 0, 'a public path was not asked of it')
  assert.deepEqual(
    heard().filter((path) => !ours.has(path)),
    [],
  )
})

void test('lan.ask = "all": of every path that is looked for', async (t) => {
  const { get, heard } = await machine(t, 'all')
  const nowhere = narInfoFile({ storePath: pathNamed('nowhere-1.0') })
  assert.equal(await get(nowhere), 404)
  assert.ok((await get(narInfoFile(company.info))) instanceof Buffer)
  const narInfos = heard().filter((path) => path.endsWith('.narinfo'))
  assert.deepEqual(narInfos, [nowhere, narInfoFile(company.info)])
})
