import type { Command } from 'commander'
import type { AuditStatus } from '../operations/audit-report.ts'
import type { BlocksReport, FetchedReport, NarsReport } from '../operations/bytes-report.ts'
import type {
  RelayStatus,
  SpoolStatus,
  StatusDocument,
  StoreStatus,
  UploadStatus,
  UpstreamReport,
} from '../operations/status.ts'
import { createAdminClient } from './admin-client.ts'
import { adminSocketPath } from './connect.ts'
import { addConfigOption, addJsonOption } from './context.ts'
import type { CliContext, ConfigOption, JsonOption } from './context.ts'
import { printFacts } from './facts.ts'
import type { Fact } from './facts.ts'
import { printFeeds } from './feed-status.ts'
import type { Output } from './output.ts'
import { count, formatBytes } from './units.ts'

export function addStatus(program: Command, context: CliContext): void {
  addJsonOption(addConfigOption(program.command('status')))
    .description('show what the running narswarm does, and with whom')
    .addHelpText('after', '\nExits with 4 when no narswarm runs here.')
    .action((options: ConfigOption & JsonOption) => status(context, options))
}

async function status(context: CliContext, options: ConfigOption & JsonOption): Promise<void> {
  const { output, signal } = context
  const config = context.loadConfig(options)
  const document = await createAdminClient(adminSocketPath(config)).status({ signal })
  if (options.json === true) output.json(document)
  else printStatus(output, document)
}

function printStatus(output: Output, it: StatusDocument): void {
  const { spool, transfers, peer, swarm } = it
  const facts: Fact[] = [
    ['narswarm', [`${it.narswarm}, profile ${it.profile}, since ${it.started}`]],
    ['cache', [`${it.cache.url} (priority ${it.cache.priority})`]],
    ['listens to peers', [...(peer === undefined ? [] : [peer.url]), ...(swarm?.addrs ?? [])]],
    ['trusts', it.trusted_keys],
    [
      'shares',
      it.uploads === undefined ? ['nothing'] : it.share_keys.map((key) => `what is signed by ${key}`),
    ],
    ...(it.uploads === undefined ? [] : [['gave others', uploadFacts(it.uploads)] as const]),
    ['asks upstreams', it.upstreams.map(upstreamLine)],
    ['asks peers', it.peers],
    ['spool', spoolFacts(spool)],
    ...(it.store === undefined ? [] : [storeFact(it.store)]),
    ['transfers', [`${transfers.running} running`]],
    ['NARs', it.nars.map(narsFact)],
    ['fetched', fetchedFacts(it.fetched)],
    ['blocks', blockFacts(it.blocks)],
    ...(it.relay === undefined ? [] : [['relay', [relayFact(it.relay)]] as const]),
    ['audits', auditFacts(it.audit)],
  ]
  printFacts(output, facts)

  if (it.sources.length > 0) output.result('')
  output.table(
    it.sources.map((source) => [
      source.id,
      formatBytes(source.bytes),
      source.average_ms === undefined ? '-' : `${Math.round(source.average_ms)} ms`,
      String(source.faults),
      String(source.lies),
      source.out ? 'left alone for now' : 'in use',
    ]),
    [
      { title: 'SOURCE' },
      { title: 'GAVE', align: 'right' },
      { title: 'A BLOCK', align: 'right' },
      { title: 'FAULTS', align: 'right' },
      { title: 'LIES', align: 'right' },
      { title: 'STATE' },
    ],
  )
  if (it.feeds.published.length + it.feeds.followed.length > 0) output.result('')
  printFeeds(output, it.feeds)
  for (const { feed, path, nar_hash: narHash, told, computed, found_at: at } of it.audit.bad) {
    output.complain(
      `feed ${feed ?? '(not noted)'}: WRONG about ${path ?? narHash}: told ${told}, ${computed === undefined ? 'which leads to other bytes' : `its NAR has ${computed}`} (${at})`,
    )
  }
}

function blockFacts({ got, given }: BlocksReport): string[] {
  return [['got', got] as const, ['given over HTTP', given] as const].flatMap(
    ([verb, { bytes, wire_bytes: wireBytes, by_difference: so }]) => {
      if (bytes === 0) return []
      const wire = wireBytes === bytes ? '' : `, ${formatBytes(wireBytes)} on the wire`
      const difference =
        so === undefined
          ? ''
          : `; ${formatBytes(so.bytes)} of it as the difference from what was there, ${formatBytes(so.wire_bytes)} on the wire`
      return [`${formatBytes(bytes)} ${verb}${wire}${difference}`]
    },
  )
}

function uploadFacts({ bytes, max_bytes_per_second: max, peers }: UploadStatus): string[] {
  const limit = max === undefined ? '' : `, at most ${formatBytes(max)} a second`
  return [
    `${formatBytes(bytes)}${limit}`,
    ...peers
      .filter(({ refused }) => refused > 0)
      .map(({ address, refused }) => `${address} was over its budget: ${count(refused, 'request')} refused`),
  ]
}

function storeFact(store: StoreStatus): [string, string[]] {
  const { indexed, indexed_bytes: bytes, to_go: toGo, to_go_bytes: bytesToGo = 0 } = store
  const rest =
    toGo === undefined ? 'looking for more' : `${count(toGo, 'NAR')}, ${formatBytes(bytesToGo)} to go`
  return ['out of the store', [`${count(indexed, 'path')} by CID, ${formatBytes(bytes)}; ${rest}`]]
}

const ORIGINS = {
  spool: 'as they lay in the spool',
  store: 'as they lay in the store',
  rewritten: 'made of older paths',
  local: 'out of other NARs that are here',
  neighbour: 'from neighbours',
  peer: 'from peers over HTTP',
  swarm: 'from peers over bitswap',
  upstream: 'from upstreams',
} as const satisfies Record<NarsReport['source'], string>

function narsFact({ source, nars, bytes }: NarsReport): string {
  return `${nars} ${ORIGINS[source]}, ${formatBytes(bytes)}`
}

function fetchedFacts(it: FetchedReport): string[] {
  const { bytes, from_neighbours: near, from_upstreams: sent, made_here: made, neighbours } = it
  if (bytes === 0) return ['nothing yet']
  return [
    `${formatBytes(near)} of ${formatBytes(bytes)} came from neighbours; upstreams sent ${formatBytes(sent)}`,
    ...(made === 0 ? [] : [`${formatBytes(made)} nobody had to send`]),
    ...neighbours.map((one) => `${formatBytes(one.bytes)} by ${one.id}`),
  ]
}

function relayFact({ nars, bytes_today: bytes, max_bytes_per_day: max }: RelayStatus): string {
  return `fetched ${count(nars, 'NAR')} for others; ${formatBytes(bytes)} of ${formatBytes(max)} a day`
}

function auditFacts(audit: AuditStatus): string[] {
  const { right, wrong, unavailable, untrusted } = audit
  const all = right + wrong + unavailable + untrusted
  return [
    audit.max_bytes_per_day === 0
      ? 'off (audit.max_bytes_per_day)'
      : `${formatBytes(audit.bytes_today)} of ${formatBytes(audit.max_bytes_per_day)} a day`,
    ...(all === 0
      ? []
      : [
          `${right} right, ${wrong} wrong, ${unavailable} not to be had, ${untrusted} signed by nobody trusted, in 30 days`,
        ]),
    ...(audit.bad_count === 0
      ? []
      : [`${count(audit.bad_count, 'CID')} told by feeds proved wrong, and not used`]),
  ]
}

function upstreamLine({ url, from, state, until, last_error: error }: UpstreamReport): string {
  const reason = error === undefined ? '' : `: ${error}`
  const shown = `${url} (${from})`
  if (state === 'unfit') return `${shown}, not used${reason}`
  if (state === 'resting') return `${shown}, left alone until ${until ?? 'it answers'}${reason}`
  return error === undefined ? shown : `${shown}, last request failed${reason}`
}

function spoolFacts(spool: SpoolStatus): string[] {
  const free = spool.free_bytes === undefined ? '' : `; ${formatBytes(spool.free_bytes)} free`
  return [
    `${count(spool.nars, 'NAR')}, ${formatBytes(spool.bytes)} of ${formatBytes(spool.max_bytes)}`,
    ...(spool.pinned_bytes === 0
      ? []
      : [`${formatBytes(spool.pinned_bytes)} of that published and kept, beside the quota`]),
    ...(spool.parts === 0 ? [] : [`${count(spool.parts, 'part')} of NARs, ${formatBytes(spool.part_bytes)}`]),
    `keeps ${formatBytes(spool.min_free_bytes)} of the disk free${free}`,
    ...(spool.evicted === 0 ? [] : [`evicted ${spool.evicted}, ${formatBytes(spool.evicted_bytes)}`]),
  ]
}
