import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { PeerReport, PeersReport } from '../../src/operations/peers.ts'
import type { StatusDocument } from '../../src/operations/status.ts'
import { SOURCE_KINDS } from '../../src/source.ts'
import { STATUS } from '../cli/kit.ts'
import {
  exchange,
  getRequest,
  HASH_PART,
  ORIGIN,
  pattern,
  serve,
  statusOf,
  testCache,
  testNar,
} from './kit.ts'

const nar = testNar(pattern(300_000))

interface Family {
  readonly type: string
  /** By labels as they stand in the text. */
  readonly samples: Map<string, number>
}

/** The text format 0.0.4 as far as it is used here, and nothing that a lenient reader would let pass. */
function parse(text: string): Map<string, Family> {
  const families = new Map<string, Family>()
  assert.ok(text.endsWith('\n'))
  let name = ''
  let expected: 'HELP' | 'TYPE' | 'sample' = 'HELP'
  for (const line of text.slice(0, -1).split('\n')) {
    const [, what = '', of = '', rest = ''] = /^# (HELP|TYPE) ([a-z_]+) (.+)$/.exec(line) ?? []
    if (what === 'HELP') {
      assert.notEqual(expected, 'TYPE', line)
      assert.ok(!families.has(of), `${of} stands twice`)
      name = of
      expected = 'TYPE'
    } else if (what === 'TYPE') {
      assert.equal(expected, 'TYPE', line)
      assert.equal(of, name)
      assert.match(rest, /^(?:counter|gauge)$/)
      assert.equal(of.endsWith('_total'), rest === 'counter', of)
      families.set(of, { type: rest, samples: new Map() })
      expected = 'sample'
    } else {
      const label = '[a-z]+="(?:[^"\\\\\\n]|\\\\[\\\\"n])*"'
      const [, sampleOf, labels = '', value = ''] =
        new RegExp(`^([a-z_]+)(?:\\{(${label}(?:,${label})*)\\})? ([0-9.]+)$`).exec(line) ??
        assert.fail(`no sample: ${line}`)
      assert.equal(sampleOf, name)
      const { samples } = families.get(name) ?? assert.fail(line)
      assert.ok(!samples.has(labels), `${line} stands twice`)
      assert.ok(Number.isFinite(Number(value)))
      samples.set(labels, Number(value))
    }
  }
  for (const [of, { samples }] of families) assert.ok(samples.size > 0, `${of} has no sample`)
  return families
}

async function metrics(
  changes: { status?: Partial<StatusDocument>; peers?: PeersReport['peers'] } = {},
  before: readonly string[] = [],
): Promise<(name: string, labels?: string) => number | undefined> {
  const { app } = testCache(nar, {
    metrics: async () => ({
      status: { ...STATUS, ...changes.status },
      peers: { version: 1, peers: changes.peers ?? [] },
    }),
  })
  for (const path of before) await (await app.request(ORIGIN + path)).bytes()
  const response = await app.request(`${ORIGIN}/metrics`)
  assert.equal(response.status, 200)
  assert.equal(response.headers.get('content-type'), 'text/plain; version=0.0.4; charset=utf-8')
  const families = parse(await response.text())
  return (name, labels = '') => families.get(`narswarm_${name}`)?.samples.get(labels)
}

describe('/metrics', () => {
  it('has the figures of status, all kinds of source from the beginning', async () => {
    const of = await metrics()
    assert.equal(of('nars_total', 'source="rewritten"'), 3)
    assert.equal(of('nar_bytes_total', 'source="upstream"'), 10 * 2 ** 20)
    for (const kind of SOURCE_KINDS) assert.notEqual(of('nars_total', `source="${kind}"`), undefined)
    assert.equal(of('spool_bytes'), 1_234_567 + 4_096)
    assert.equal(of('transfers_running'), 0)
    assert.equal(of('start_time_seconds'), Date.parse('2026-01-02T03:04:05Z') / 1000)
    assert.equal(of('build_info', `version="0.0.0-test",node="${process.versions.node}"`), 1)
  })

  it('says what a relay fetched, and nothing of it where there is none', async () => {
    const relay = { max_bytes_per_day: 100, bytes_today: 42, nars: 3, under_way: 1 }
    const of = await metrics({ status: { relay } })
    assert.deepEqual([of('relay_nars_total'), of('relay_bytes_today')], [3, 42])
    assert.equal((await metrics())('relay_nars_total'), undefined)
  })

  it('says which upstreams are in use, by host', async () => {
    const upstreams: StatusDocument['upstreams'] = [
      { url: 'https://cache.nixos.org/', from: 'nix.conf', state: 'ok' },
      { url: 'https://two.example/a', from: 'nix.conf', state: 'ok' },
      { url: 'https://two.example/b', from: 'nix.conf', state: 'resting' },
      { url: 'file:///home/somebody/cache', from: 'file', state: 'unfit' },
    ]
    const of = await metrics({ status: { upstreams } })
    assert.equal(of('upstream_up', 'upstream="cache.nixos.org"'), 1)
    assert.equal(of('upstream_up', 'upstream="two.example"'), 0)
    assert.equal(of('upstream_up', 'upstream="file"'), 0)
  })

  it('says how fresh feeds are, and what neighbours do', async () => {
    const followed = [
      { name: 'a.example/b', state: 'fresh', signed_at: '2026-01-02T03:04:05Z' },
      { name: 'c.example/"d\\', state: 'stale' },
    ] as unknown as StatusDocument['feeds']['followed']
    const peers = ['ok', 'ok', 'banned'].map((state) => ({ id: 'x', state }) as PeerReport)
    const of = await metrics({ status: { feeds: { published: [], followed } }, peers })
    assert.equal(of('feed_fresh', 'feed="a.example/b"'), 1)
    assert.equal(of('feed_fresh', 'feed="c.example/\\"d\\\\"'), 0)
    assert.equal(of('feed_signed_timestamp_seconds', 'feed="a.example/b"'), 1_767_323_045)
    assert.equal(of('neighbours', 'state="ok"'), 2)
    assert.equal(of('neighbours', 'state="banned"'), 1)
    assert.equal(of('neighbours', 'state="resting"'), 0)
  })

  it('counts answers by route and class, and no path', async () => {
    const of = await metrics({}, [
      `/${HASH_PART}.narinfo`,
      `/${HASH_PART.replace('7', '8')}.narinfo`,
      `/nar/${nar.info.narHash}.nar`,
      `/nar/${nar.info.narHash}.nar`,
      '/nix-cache-info',
      '/metrics',
      '/some/"thing\\else',
      '/..%2f',
    ])
    const count = (labels: string) => of('http_requests_total', labels)
    assert.equal(count('route="narinfo",code="2xx"'), 1)
    assert.equal(count('route="narinfo",code="4xx"'), 1)
    assert.equal(count('route="nar",code="2xx"'), 2)
    assert.equal(count('route="cache-info",code="2xx"'), 1)
    assert.equal(count('route="own",code="2xx"'), 1)
    assert.equal(count('route="other",code="4xx"'), 2)
  })

  it('counts on a socket, too, what was refused', async (t) => {
    const { app } = testCache(nar)
    const { port } = await serve(t, app)
    await exchange(t, port, getRequest(port, `/nar/${nar.info.narHash}.nar`, ['Range: bytes=5-9']))
    const refused = getRequest(port, '/metrics').replace('Host: 127.0.0.1', 'Host: elsewhere.example')
    assert.equal(statusOf(await exchange(t, port, refused)), 403)
    const crossSite = getRequest(port, '/metrics', ['Origin: https://elsewhere.example'])
    assert.equal(statusOf(await exchange(t, port, crossSite)), 403)
    const text = await (await app.request(`${ORIGIN}/metrics`)).text()
    const { samples } = parse(text).get('narswarm_http_requests_total') ?? assert.fail(text)
    assert.equal(samples.get('route="nar",code="2xx"'), 1)
    assert.equal(samples.get('route="own",code="4xx"'), 2)
  })

  it('answers HEAD without a body, and nothing else but GET', async () => {
    const { app } = testCache(nar)
    const head = await app.request(`${ORIGIN}/metrics`, { method: 'HEAD' })
    assert.equal(head.status, 200)
    assert.equal(await head.text(), '')
    assert.equal((await app.request(`${ORIGIN}/metrics`, { method: 'POST' })).status, 405)
    assert.equal((await app.request(`${ORIGIN}/metrics/`)).status, 404)
  })
})
