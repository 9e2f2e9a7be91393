import assert from 'node:assert/strict'
import { chmod, open, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { skipWithoutNix } from '../kit/nix.ts'
import { flipByte } from './kit/flip-byte.ts'
import { openBuilder } from './kit/builder.ts'
import { openConsumer } from './kit/consumer.ts'
import type { Consumer } from './kit/consumer.ts'
import { closureOf } from './kit/nix-machine.ts'
import type { ValidPath } from './kit/nix-machine.ts'
import { openStage } from './kit/stage.ts'

test('a rebuild that differs in store paths alone', { skip: skipWithoutNix() }, async (t) => {
  const stage = await openStage(t)
  const builder = await openBuilder(stage, 'before')
  const { publicKey, top: before, also } = builder
  const after = await also('after')
  const valid = builder.validPaths()
  const [oldPaths, newPaths] = [closureOf(valid, before), closureOf(valid, after)]
  const changed = newPaths.filter(({ path }) => !oldPaths.some((old) => old.path === path))
  const library = pathOf(changed, 'changed-1.0')
  assert.equal(changed.length, 5)
  const sizeOf = (paths: readonly ValidPath[]): number => paths.reduce((sum, { narSize }) => sum + narSize, 0)

  const cache = join(stage.dir, 'cache')
  await builder.copyTo(`file://${cache}?compression=xz&compression-level=0`, [before, after])
  const upstream = `file://${cache}`

  /** Installs the first set, then `meddle`s, then installs the second. @returns bytes of the second by source */
  const upgrade = async (
    consumer: Consumer,
    meddle: () => Promise<() => Promise<void>> = async () => async () => {},
  ): Promise<Map<string, number>> => {
    const from = { url: consumer.url, publicKey }
    const first = await consumer.realise([before], from)
    assert.ok(first.ok, first.stderr)
    const earlier = await bytesBySource(consumer)
    const undo = await meddle()
    const second = await consumer.realise([after], from)
    assert.ok(second.ok, second.stderr)
    await undo()
    // Every path that Nix has now is as its NarHash says.
    await consumer.verify()
    const all = consumer.validPaths()
    assert.deepEqual(closureOf(all, after), newPaths)
    const bytes = await bytesBySource(consumer)
    return new Map([...bytes].map(([id, count]) => [id, count - (earlier.get(id) ?? 0)]))
  }

  const open = async (settings: Record<string, unknown> = {}): Promise<Consumer> =>
    openConsumer(await openStage(t, stage), {
      upstreams: [upstream],
      trust: { keys: [publicKey] },
      ...settings,
    })
  const id = `upstream:${upstream}`

  await t.test(
    'is made of what is here: upstream gives the library that changed, and no byte more',
    async () => {
      const consumer = await open()
      assert.deepEqual(
        await upgrade(consumer),
        new Map([
          [id, library.narSize],
          ['rewritten', sizeOf(changed) - library.narSize],
        ]),
      )
      await consumer.narswarm.stop()
    },
  )

  await t.test('comes from upstream where upgrade.rewrite is off', async () => {
    const consumer = await open({ upgrade: { rewrite: false } })
    assert.deepEqual(await upgrade(consumer), new Map([[id, sizeOf(changed)]]))
    await consumer.narswarm.stop()
  })

  await t.test('comes from upstream where a file of the old path has changed', async () => {
    const consumer = await open()
    const old = pathOf(oldPaths, 'first-1.0')
    const wanted = pathOf(newPaths, 'first-1.0')
    const flip = (): Promise<void> => flipByte(join(consumer.root, old.path, 'share/numbers'), 1_000_000)
    const bytes = await upgrade(consumer, async () => {
      await flip()
      return flip
    })
    assert.deepEqual(
      bytes,
      new Map([
        [id, library.narSize + wanted.narSize],
        ['rewritten', sizeOf(changed) - library.narSize - wanted.narSize],
      ]),
    )
    await consumer.narswarm.stop()
  })

  await t.test('comes from upstream where the database says of the old path what is not so', async () => {
    const consumer = await open()
    const old = pathOf(oldPaths, 'small-3.0')
    const wanted = pathOf(newPaths, 'small-3.0')
    const bytes = await upgrade(consumer, async () => {
      const file = join(consumer.root, old.path)
      const contents = await replace(file, 'shorter than its row says')
      return async () => void (await replace(file, contents))
    })
    assert.deepEqual(
      bytes,
      new Map([
        [id, library.narSize + wanted.narSize],
        ['rewritten', sizeOf(changed) - library.narSize - wanted.narSize],
      ]),
    )
    await consumer.narswarm.stop()
  })
})

function pathOf(paths: readonly ValidPath[], name: string): ValidPath {
  return paths.find(({ path }) => path.endsWith(`-${name}`)) ?? assert.fail(`no path named ${name}`)
}

async function bytesBySource({ narswarm }: Consumer): Promise<Map<string, number>> {
  const { sources } = await narswarm.status()
  return new Map(sources.filter(({ bytes }) => bytes > 0).map(({ id, bytes }) => [id, bytes]))
}

/** @returns what was in it */
async function replace(path: string, contents: string): Promise<string> {
  await chmod(path, 0o644)
  const file = await open(path, 'r')
  const before = await file.readFile('utf8')
  await file.close()
  await writeFile(path, contents)
  await chmod(path, 0o444)
  return before
}
