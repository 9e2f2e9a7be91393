import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { openStage } from '../e2e/kit/stage.ts'
import { makeClosure, openNixWith } from './kit/closure.ts'
import { openLan } from './kit/lan.ts'
import type { Host } from './kit/lan.ts'
import { openMachine } from './kit/machine.ts'
import { peerAt, untilFound, untilState } from './kit/neighbours.ts'
import { skipWithoutLan } from './kit/skip.ts'

const SIZES = [1_000, 3_000_000]

const NETWORKS: readonly (readonly [string, (host: Host) => Promise<unknown>])[] = [
  ['a router', async () => {}],
  ['no router', (host) => host.ip('-4', 'route', 'delete', 'default')],
  ['IPv4 alone', (host) => host.ip('-6', 'address', 'flush', 'dev', 'eth0')],
  ['IPv6 alone', (host) => host.ip('-4', 'address', 'flush', 'dev', 'eth0')],
]

suite('neighbours find each other', { skip: skipWithoutLan() }, () => {
  for (const [title, change] of NETWORKS) {
    test(`in a network with ${title}`, async (t) => {
      const stage = await openStage(t)
      const lan = await openLan(stage)
      const closure = await makeClosure(stage, 'found', SIZES)
      const { publicKey, top, nars } = closure
      const [hostA, hostB] = [await lan.addHost('a'), await lan.addHost('b')]
      for (const host of [hostA, hostB]) await change(host)
      const nix = await openNixWith(stage, hostA, closure)
      const a = await openMachine(stage, hostA, { publicKey, nix })
      const b = await openMachine(stage, hostB, { publicKey })
      await untilFound(b, 1, stage.signal)
      await untilFound(a, 1, stage.signal)
      await b.install([top])
      assert.equal(b.validPaths().length, nars.length)
      for (const { narswarm } of [a, b]) await narswarm.stop()
    })
  }

  test('also after one was away', async (t) => {
    const stage = await openStage(t)
    const lan = await openLan(stage)
    const closure = await makeClosure(stage, 'away', SIZES)
    const { publicKey, top, nars } = closure
    const hostA = await lan.addHost('a')
    const nix = await openNixWith(stage, hostA, closure)
    const a = await openMachine(stage, hostA, { publicKey, nix })
    const b = await openMachine(stage, await lan.addHost('b'), { publicKey })
    await untilFound(b, 1, stage.signal)

    await b.host.unplug()
    // Not by its Nix, which would remember it.
    const gone = await b.host.get(`${b.url}/${nars[0]?.narInfoPath}`)
    gone.resume()
    assert.equal(gone.statusCode, 404)
    await untilState(b, a.host, 'resting', stage.signal)
    await b.host.plug()
    await untilState(b, a.host, 'ok', stage.signal)
    await b.install([top])
    assert.equal(b.validPaths().length, nars.length)

    // It is told apart by its peer id, not by where it was.
    const before = await peerAt(b, a.host)
    await a.narswarm.stop()
    await a.host.ip('address', 'delete', `${a.host.address}/24`, 'dev', 'eth0')
    await a.host.ip('address', 'add', '192.168.77.99/24', 'dev', 'eth0')
    await a.narswarm.start()
    await untilState(b, { address: '192.168.77.99' }, 'ok', stage.signal)
    assert.deepEqual(
      (await b.narswarm.peers()).peers.map(({ id }) => id),
      [before.id],
    )
    for (const { narswarm } of [a, b]) await narswarm.stop()
  })
})
