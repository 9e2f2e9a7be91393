/** One NAR from a peer into a spool of its own, by the engine that `serve` uses: every leaf and the whole verified. */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { isLoopbackUrl } from '../../src/config/ip-address.ts'
import { createYoungCollector, tuneGarbageCollector } from '../../src/config/garbage-collector.ts'
import { parseCid } from '../../src/dag/cid.ts'
import type { Log } from '../../src/log.ts'
import { parsePublicKey, trustedKeys } from '../../src/nix/key.ts'
import { parseNarInfo } from '../../src/nix/narinfo.ts'
import type { BlockSource, NarInfoSource } from '../../src/source.ts'
import { COST } from '../../src/source.ts'
import { openLeafIndex } from '../../src/spool/leaf-index.ts'
import { createLocalBlocks } from '../../src/spool/local-blocks.ts'
import { openSpool } from '../../src/spool/spool.ts'
import { openDatabase } from '../../src/state/database.ts'
import { createNarInfoTable } from '../../src/substitute/narinfo-table.ts'
import { createPolicy } from '../../src/substitute/policy.ts'
import { createResolver } from '../../src/substitute/resolve.ts'
import { createScores } from '../../src/substitute/scores.ts'
import { createTransfers } from '../../src/substitute/transfers.ts'
import { createGatewaySource } from '../../src/swarm/gateway-source.ts'
import { startSwarmNode } from '../../src/swarm/node.ts'

tuneGarbageCollector()
const { dir, narInfo, key, gateway, peer } = JSON.parse(process.argv[2] ?? '{}') as {
  dir: string
  narInfo: string
  key: string
  /** One of the two. */
  gateway?: string
  peer?: string
}
const storeDir = '/nix/store'
const quiet = (): void => {}
const log: Log = {
  debug: quiet,
  info: quiet,
  warn: (fields, message) => process.stderr.write(`${message} ${JSON.stringify(fields)}\n`),
  error: (fields, message) => process.stderr.write(`${message} ${JSON.stringify(fields)}\n`),
}
const clock = Date.now
const signal = AbortSignal.timeout(600_000)
const db = openDatabase(join(dir, 'state.sqlite'))
const spool = await openSpool({ db, dir: join(dir, 'spool'), log, clock })
const index = openLeafIndex(db)
const info = parseNarInfo(narInfo, storeDir)
const told: NarInfoSource = {
  id: 'bench',
  cost: COST.local,
  lookup: async () => ({ info, from: 'bench', cid: parseCid(info.cid ?? '') }),
}
const blockSources: BlockSource[] = []
if (gateway !== undefined)
  blockSources.push(createGatewaySource({ url: gateway, isOnLoopback: isLoopbackUrl(new URL(gateway)) }))
const swarm =
  peer === undefined ? undefined : await startSwarmNode({ keyFile: join(dir, 'key'), listen: [] }, { log })
if (peer !== undefined && swarm !== undefined) blockSources.push(swarm.bitswapSource(peer))
const resolver = createResolver({
  policy: createPolicy({ keys: trustedKeys([parsePublicKey(key)]), threshold: 1, storeDir }),
  table: createNarInfoTable({ db, clock, log }, { storeDir }),
  sources: [told],
  log,
})
const scores = createScores({ clock })
const transfers = createTransfers({
  resolver,
  spool,
  index,
  blockSources: () => blockSources,
  received: createYoungCollector(),
  clock,
  log,
  blocks: createLocalBlocks({ index, spool, log }),
  store: undefined,
  scores,
  shareable: () => false,
  badRoot: quiet,
})
const [hashPart = ''] = info.storePath.split('-')
const verified = await resolver.byHashPart(hashPart as Parameters<typeof resolver.byHashPart>[0], { signal })
if (verified === undefined) throw new Error('the narinfo of the bench is not believed')
const cpu = process.cpuUsage()
const begun = performance.now()
await transfers.fetch(verified, { signal })
const ms = performance.now() - begun
const { user, system } = process.cpuUsage(cpu)
if (!spool.has(info.narHash)) throw new Error('the NAR is not in the spool')
const wireBytes = [...scores.all().values()].reduce((sum, score) => sum + (score.wireBytes ?? 0), 0)
const rssMb = (process.resourceUsage().maxRSS * 1024) / 1e6
process.stdout.write(
  `${JSON.stringify({ ms, cpuMs: { user: user / 1000, system: system / 1000 }, bytes: info.narSize, wireBytes, rssMb })}\n`,
)
await swarm?.stop()
await rm(dir, { recursive: true, force: true })
process.exit(0)
