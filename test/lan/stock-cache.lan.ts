import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { find } from '../../bench/kit/program.ts'
import { openStage } from '../e2e/kit/stage.ts'
import { makeClosure, openNixWith } from './kit/closure.ts'
import { openLan } from './kit/lan.ts'
import { openMachine } from './kit/machine.ts'
import { startNginx } from './kit/nginx.ts'
import { peerAt } from './kit/neighbours.ts'
import { skipWithoutLan } from './kit/skip.ts'

const SIZES = [1_000, 6_000_000, 200_000]
const skip = skipWithoutLan() || (find('nginx') === undefined && 'no nginx on this machine')

for (const compression of ['xz', 'none', 'zstd']) {
  test(
    `a folder that nix copy made with compression ${compression}, behind nginx, is a neighbour`,
    { skip },
    async (t) => {
      const stage = await openStage(t)
      const lan = await openLan(stage)
      const closure = await makeClosure(stage, 'stock', SIZES)
      const { publicKey, top, nars } = closure
      const cacheHost = await lan.addHost('cache')
      const nix = await openNixWith(stage, cacheHost, closure)
      const dir = join(stage.dir, 'stock')
      await nix.copyTo(`file://${dir}?compression=${compression}`, [top])
      const url = await startNginx(stage, cacheHost, dir)

      const settings = { peers: { urls: [url] } }
      const b = await openMachine(stage, await lan.addHost('b'), { publicKey, settings })
      await b.install([top])
      assert.equal(b.validPaths().length, nars.length)
      const { state, kind, from } = await peerAt(b, cacheHost)
      assert.deepEqual({ state, kind, from }, { state: 'ok', kind: 'cache', from: 'config' })
      await b.narswarm.stop()
    },
  )
}
