import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { hasFeeds, startNarswarm } from './narswarm.ts'
import type { Narswarm } from './narswarm.ts'
import { openNixMachine } from './nix-machine.ts'
import type { NixMachine, ValidPath } from './nix-machine.ts'
import type { Stage } from './stage.ts'

/** A machine whose Nix has one substituter, the narswarm on it. */
export interface Consumer extends NixMachine {
  readonly narswarm: Narswarm
  /** Of the substituter. */
  readonly url: string
}

/**
 * @param feedSizes entries of each feed in `settings`, which are waited for
 * @param nix a store that has something already
 */
export async function openConsumer(
  stage: Stage,
  settings: Record<string, unknown>,
  feedSizes: readonly number[] = [],
  nix?: NixMachine,
): Promise<Consumer> {
  const machine = nix ?? (await openNixMachine(stage, 'machine'))
  const narswarm = await startNarswarm(stage, 'consumer', { store_root: machine.root, ...settings })
  const { cache } = await narswarm.until(hasFeeds(...feedSizes))
  return { ...machine, narswarm, url: cache.url }
}

/** What a test wants to be installed, and whose signature the machine's Nix takes. */
export interface Wanted {
  readonly path: ValidPath
  readonly publicKey: string
}

/** Whatever happens, the store has the right path or none. @returns what Nix said when it did not install it */
export async function install(consumer: Consumer, { path, publicKey }: Wanted): Promise<string | undefined> {
  const { ok, stderr } = await consumer.realise([path.path], { url: consumer.url, publicKey })
  await consumer.verify()
  assert.deepEqual(consumer.validPaths(), ok ? [path] : [])
  return ok ? undefined : stderr
}

export async function assertRefused(
  t: TestContext,
  consumer: Consumer,
  wanted: Wanted,
  told: RegExp,
): Promise<void> {
  assert.notEqual(await install(consumer, wanted), undefined, 'it was installed')
  assertTold(t, consumer, told)
  await consumer.narswarm.stop()
}

export async function assertInstalled(
  t: TestContext,
  consumer: Consumer,
  wanted: Wanted,
  told: RegExp,
): Promise<void> {
  assert.equal(await install(consumer, wanted), undefined)
  assertTold(t, consumer, told)
  await consumer.narswarm.stop()
}

/** One line that says all of it, at a level that is seen. */
function assertTold(t: TestContext, { narswarm }: Consumer, told: RegExp): void {
  const lines = narswarm.log().filter((line) => /^(?:warn|error) /.test(line))
  const line = lines.find((one) => told.test(one))
  assert.ok(line !== undefined, `expected a line like ${String(told)}, got:\n${lines.join('\n')}`)
  t.diagnostic(line)
}
