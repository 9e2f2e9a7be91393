import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { hashPartOf, parseStorePath } from '../../src/nix/store-path.ts'
import type { ExplainReport } from '../../src/operations/explain.ts'
import { skipWithoutNix } from '../kit/nix.ts'
import { openBuilder } from './kit/builder.ts'
import { openConsumer } from './kit/consumer.ts'
import { closureOf } from './kit/nix-machine.ts'
import type { ValidPath } from './kit/nix-machine.ts'
import { openStage } from './kit/stage.ts'

test('what came from where is told', { skip: skipWithoutNix() }, async (t) => {
  const stage = await openStage(t)
  const builder = await openBuilder(stage, 'before')
  const { publicKey, top: before, also } = builder
  const after = await also('after')
  const valid = builder.validPaths()
  const oldPaths = closureOf(valid, before)
  const newPaths = closureOf(valid, after).filter(({ path }) => !oldPaths.some((old) => old.path === path))
  const cache = join(stage.dir, 'cache')
  await builder.copyTo(`file://${cache}?compression=xz&compression-level=0`, [before, after])
  const upstream = `upstream:file://${cache}`
  const consumer = await openConsumer(stage, { upstreams: [`file://${cache}`], trust: { keys: [publicKey] } })
  const { narswarm, url } = consumer
  const explain = async (path: string): Promise<ExplainReport> =>
    JSON.parse(await narswarm.cli('explain', '--json', path)) as ExplainReport
  const [dependent, library] = ['first-1.0', 'changed-1.0'].map((name) => pathOf(newPaths, name)) as [
    ValidPath,
    ValidPath,
  ]

  await t.test('before anything is here', async () => {
    const report = await explain(dependent.path)
    assert.deepEqual([report.here?.store, report.older_paths?.paths, report.now], ['no', [], upstream])
    assert.match(await narswarm.cli('explain', dependent.path), /none here has its name and size/)
  })

  const first = await consumer.realise([before], { url, publicKey })
  assert.ok(first.ok, first.stderr)
  const { nars, fetched } = await narswarm.until(({ transfers }) => transfers.running === 0)
  const installed = { nars, fetched }

  await t.test('what would be made of an older path, and what would not', async () => {
    const made = await explain(dependent.path)
    const [older] = made.older_paths?.paths ?? []
    assert.equal(older?.path, pathOf(oldPaths, 'first-1.0').path)
    assert.equal(older.outcome, 'right')
    assert.equal(older.references?.paired, older.references?.of)
    assert.equal(made.now, 'rewritten')
    assert.deepEqual(made.nar?.keys, [publicKey.split(':', 1)[0]])
    const fetched = await explain(library.path)
    assert.equal(fetched.now, upstream)
    assert.ok(fetched.older_paths?.paths.every(({ outcome }) => outcome !== 'right'))
    for (const path of [dependent.path, library.path]) t.diagnostic(await narswarm.cli('explain', path))
  })

  await t.test('a path that nobody knows', async () => {
    const path = dependent.path.replace(/[0-9a-z]{32}/, '0'.repeat(32))
    assert.match(await narswarm.cli('explain', path), /known to nobody who was asked/)
  })

  await t.test('and nothing was fetched for that', async () => {
    const { nars, fetched } = await narswarm.status()
    assert.deepEqual({ nars, fetched }, installed)
  })

  await t.test('and then it is so', async () => {
    const { nar } = await explain(dependent.path)
    const narHash = nar?.nar_hash.replace('sha256:', '') ?? assert.fail()
    await (await fetch(`${url}/${hashPartOf(parseStorePath(dependent.path, '/nix/store'))}.narinfo`)).text()
    const sources = []
    for (let count = 0; count < 2; count += 1) {
      const answer = await fetch(`${url}/nar/${narHash}.nar`)
      assert.equal((await answer.bytes()).length, nar?.nar_size)
      sources.push(answer.headers.get('x-narswarm-source'))
      await narswarm.until(({ transfers }) => transfers.running === 0)
    }
    assert.deepEqual(sources, ['rewritten', 'spool'])
    const metrics = await (await fetch(`${url}/metrics`)).text()
    assert.match(
      metrics,
      new RegExp(`^narswarm_nar_bytes_total\\{source="rewritten"\\} ${nar?.nar_size}$`, 'm'),
    )
    const status = await narswarm.status()
    assert.equal(status.fetched.made_here, nar?.nar_size)
    t.diagnostic(await narswarm.cli('status'))
  })
  await narswarm.stop()
})

function pathOf(paths: readonly ValidPath[], name: string): ValidPath {
  return paths.find(({ path }) => path.endsWith(`-${name}`)) ?? assert.fail(`no path named ${name}`)
}
