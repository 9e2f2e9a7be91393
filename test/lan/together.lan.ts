import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openStage } from '../e2e/kit/stage.ts'
import { startCacheServer } from './kit/cache-server.ts'
import { makeClosure } from './kit/closure.ts'
import { openLan } from './kit/lan.ts'
import { openMachine } from './kit/machine.ts'
import type { Machine } from './kit/machine.ts'
import { untilFound } from './kit/neighbours.ts'
import { skipWithoutLan } from './kit/skip.ts'

const BYTES = Number(process.env['NARSWARM_LAN_TOGETHER_BYTES'] ?? 500_000_000)
const HOSTS = ['h1', 'h2', 'h3', 'h4', 'h5']
const PATHS = 40
/** A home's line; five hosts on two cores could not keep up with much more. */
const UPSTREAM_MBIT = 50
const MOST = 1.2
const TEST_MS = 900_000

test(
  'five hosts install the same at the same moment: upstream sends it about once',
  { skip: skipWithoutLan() },
  async (t) => {
    const stage = await openStage(t, undefined, TEST_MS)
    const lan = await openLan(stage)
    const { publicKey, top, nars, dir, bytes } = await makeClosure(stage, 'together', [
      1_000,
      ...Array.from({ length: PATHS }, () => Math.round(BYTES / PATHS)),
    ])
    const away = await lan.addHost('upstream')
    const upstream = await startCacheServer(away, dir)
    await away.limit({ up: UPSTREAM_MBIT })
    const machines: Machine[] = []
    for (const name of HOSTS) {
      const host = await lan.addHost(name)
      machines.push(await openMachine(stage, host, { publicKey, substituters: [upstream.url] }))
    }
    for (const machine of machines) await untilFound(machine, HOSTS.length - 1, stage.signal)

    const before = await away.sentBytes()
    const begun = performance.now()
    await Promise.all(machines.map((machine) => machine.install([top])))
    const seconds = (performance.now() - begun) / 1000
    const onTheWire = (await away.sentBytes()) - before

    const sent = upstream.requests.filter(({ path }) => path.startsWith('/nar/'))
    const sentBytes = sent.reduce((sum, request) => sum + request.sent, 0)
    const fetches = sent.length
    t.diagnostic(
      `${bytes} bytes; upstream was asked ${fetches} times for ${nars.length} NARs and sent ${(sentBytes / bytes).toFixed(3)} of it, ` +
        `${(onTheWire / bytes).toFixed(3)} on the wire with all else; ${seconds.toFixed(1)} s`,
    )
    for (const { host, narswarm } of machines) {
      const { sources } = await narswarm.status()
      t.diagnostic(`${host.name}: ${JSON.stringify(sources.map(({ id, bytes }) => [id, bytes]))}`)
    }
    assert.ok(sentBytes <= MOST * bytes, `upstream sent ${sentBytes} bytes of ${bytes}`)
    for (const machine of machines) {
      assert.equal(machine.validPaths().length, nars.length)
      await machine.narswarm.stop()
    }
  },
)
