/**
 * `/metrics` in the text format 0.0.4 of Prometheus: the figures of `status` and `peer list` under other names, and the
 * requests of this listener. Labels have few values: kinds, states, and what the configuration names.
 */
import { SOURCE_KINDS } from '../source.ts'
import type { PeersReport } from '../operations/peers.ts'
import type { StatusDocument } from '../operations/status.ts'
import type { Answer } from './answer.ts'
import type { RequestCounts } from './request-counts.ts'

export interface MetricsFacts {
  readonly status: StatusDocument
  readonly peers: PeersReport
  readonly requests: ReturnType<RequestCounts['all']>
}

type Labels = Readonly<Record<string, string>>
type Sample = readonly [labels: Labels, value: number]

export function metricsAnswer(facts: MetricsFacts): Answer {
  return {
    status: 200,
    headers: {
      'Content-Type': 'text/plain; version=0.0.4; charset=utf-8',
      'X-Content-Type-Options': 'nosniff',
      'Cache-Control': 'no-store',
    },
    body: formatMetrics(facts),
  }
}

function formatMetrics({ status, peers, requests }: MetricsFacts): string {
  const { narswarm: version, started, spool, transfers, blocks, upstreams, feeds, uploads, relay } = status
  const nars = (of: 'nars' | 'bytes'): Sample[] =>
    SOURCE_KINDS.map((source) => [{ source }, status.nars.find((one) => one.source === source)?.[of] ?? 0])
  return [
    gauge('build_info', 'What runs.', [[{ version, node: process.versions.node }, 1]]),
    gauge('start_time_seconds', 'When it began.', only(Date.parse(started) / 1000)),
    counter(
      'http_requests_total',
      'Answers of the cache listener.',
      requests.map(({ route, code, count }) => [{ route, code }, count]),
    ),
    counter('nars_total', 'NARs, each where most of it came from.', nars('nars')),
    counter('nar_bytes_total', 'Bytes of NARs by where they came from, uncompressed.', nars('bytes')),
    counter('block_bytes_total', 'Bytes of single blocks.', [
      [{ direction: 'got' }, blocks.got.bytes],
      [{ direction: 'given' }, blocks.given.bytes],
    ]),
    counter('block_wire_bytes_total', 'The same on the wire, coded or not.', [
      [{ direction: 'got' }, blocks.got.wire_bytes],
      [{ direction: 'given' }, blocks.given.wire_bytes],
    ]),
    counter('upload_bytes_total', 'Bytes given to others.', only(uploads?.bytes ?? 0)),
    counter('relay_nars_total', 'NARs fetched for others.', relay === undefined ? [] : only(relay.nars)),
    gauge(
      'relay_bytes_today',
      'Bytes of NARs fetched for others, of upgrade.relay_max_bytes_per_day.',
      relay === undefined ? [] : only(relay.bytes_today),
    ),
    gauge('transfers_running', 'NARs on their way.', only(transfers.running)),
    gauge('spool_nars', 'Whole NARs in the spool.', only(spool.nars)),
    gauge('spool_bytes', 'Bytes of them, and of kept parts.', only(spool.bytes + spool.part_bytes)),
    gauge('spool_max_bytes', 'What the spool may take.', only(spool.max_bytes)),
    counter('spool_evicted_bytes_total', 'Bytes removed for want of room.', only(spool.evicted_bytes)),
    gauge('upstream_up', '1: in use; 0: left alone, or unfit.', upstreamSamples(upstreams)),
    gauge('neighbours', 'Neighbours known; those in use are ok.', neighbourSamples(peers)),
    gauge(
      'feed_fresh',
      '1: a followed feed is as new as it says it is kept.',
      feeds.followed.map(({ name, state }) => [{ feed: name }, state === 'fresh' ? 1 : 0]),
    ),
    gauge(
      'feed_signed_timestamp_seconds',
      'Last heartbeat of a followed feed.',
      feeds.followed.flatMap(({ name, signed_at: at }): Sample[] =>
        at === undefined ? [] : [[{ feed: name }, Date.parse(at) / 1000]],
      ),
    ),
  ].join('')
}

function only(value: number): Sample[] {
  return [[{}, value]]
}

/** By host: two caches of one host are up when both are. */
function upstreamSamples(upstreams: StatusDocument['upstreams']): Sample[] {
  const hostOf = (url: string): string => new URL(url).host || 'file'
  return [...Map.groupBy(upstreams, ({ url }) => hostOf(url))].map(([upstream, same]) => [
    { upstream },
    same.every(({ state }) => state === 'ok') ? 1 : 0,
  ])
}

function neighbourSamples({ peers }: PeersReport): Sample[] {
  const states = [
    'ok',
    'unknown',
    'resting',
    'out',
    'banned',
  ] as const satisfies (typeof peers)[number]['state'][]
  return states.map((state) => [{ state }, peers.filter((one) => one.state === state).length])
}

function gauge(name: string, help: string, samples: readonly Sample[]): string {
  return family(name, 'gauge', help, samples)
}

function counter(name: string, help: string, samples: readonly Sample[]): string {
  return family(name, 'counter', help, samples)
}

function family(name: string, type: string, help: string, samples: readonly Sample[]): string {
  if (samples.length === 0) return ''
  const full = `narswarm_${name}`
  const lines = samples.map(([labels, value]) => `${full}${formatLabels(labels)} ${value}\n`)
  return `# HELP ${full} ${help}\n# TYPE ${full} ${type}\n${lines.join('')}`
}

function formatLabels(labels: Labels): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escapeLabel(value)}"`)
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`
}

function escapeLabel(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')
}
