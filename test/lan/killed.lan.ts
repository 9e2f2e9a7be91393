import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { startCountingProxy } from '../e2e/kit/counting-proxy.ts'
import { openStage } from '../e2e/kit/stage.ts'
import { startCacheServer } from './kit/cache-server.ts'
import { makeClosure, openNixWith } from './kit/closure.ts'
import { openLan } from './kit/lan.ts'
import { openMachine } from './kit/machine.ts'
import type { Machine } from './kit/machine.ts'
import { untilFound } from './kit/neighbours.ts'
import { skipWithoutLan } from './kit/skip.ts'

const BYTES = 100_000_000
/** Slow enough that its half is a while. */
const LINK_MBIT = 200

const ENDS: Readonly<Record<string, (machine: Machine) => Promise<void>>> = {
  'is killed': ({ narswarm }) => narswarm.kill(),
  'loses its network': ({ host }) => host.unplug(),
}
const OTHERS = ['another neighbour', 'an upstream'] as const

suite('a neighbour is gone at half of a NAR, and Nix sees nothing', { skip: skipWithoutLan() }, () => {
  for (const [title, end] of Object.entries(ENDS)) {
    for (const other of OTHERS) {
      test(`it ${title}, ${other} goes on`, async (t) => {
        const stage = await openStage(t)
        const lan = await openLan(stage)
        const closure = await makeClosure(stage, 'one', [BYTES])
        const { publicKey, top, bytes } = closure
        const giver = async (name: string): Promise<Machine> => {
          const host = await lan.addHost(name)
          await host.limit({ up: LINK_MBIT })
          return openMachine(stage, host, { publicKey, nix: await openNixWith(stage, host, closure) })
        }
        const a = await giver('a')
        const neighbours = [a, ...(other === 'another neighbour' ? [await giver('c')] : [])]
        const substituters =
          other === 'an upstream'
            ? [(await startCacheServer(await lan.addHost('upstream'), closure.dir)).url]
            : []
        const b = await openMachine(stage, await lan.addHost('b'), { publicKey, substituters })
        await untilFound(b, neighbours.length, stage.signal)

        const proxy = await startCountingProxy(stage, b.url, {
          listen: (server) => b.host.listen(server, '127.0.0.1'),
          createConnection: b.host.createConnection,
        })
        const installing = b.install([top], proxy.url)
        await Promise.race([proxy.until(bytes / 2), installing])
        await end(a)
        await installing
        assert.deepEqual(
          proxy.requests
            .filter(({ path }) => path.startsWith('/nar/'))
            .map(({ range, status }) => [range, status]),
          [[undefined, 200]],
        )
        const { sources } = await b.narswarm.status()
        t.diagnostic(
          JSON.stringify(sources.map(({ id, bytes, faults, out }) => ({ id, bytes, faults, out }))),
        )
        assert.ok(sources.filter(({ bytes }) => bytes > 0).length > 1, 'all came from one source')
        const received = sources.reduce((sum, source) => sum + source.bytes, 0)
        assert.ok(received < bytes * 1.1, `${received} bytes came, some of them twice`)
        await b.narswarm.stop()
      })
    }
  }
})
