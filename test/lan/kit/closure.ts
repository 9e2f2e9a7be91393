import { join } from 'node:path'
import { createCache, randomNar } from '../../../bench/kit/cache.ts'
import type { BenchNar } from '../../../bench/kit/cache.ts'
import { openNixMachine } from '../../e2e/kit/nix-machine.ts'
import type { NixMachine } from '../../e2e/kit/nix-machine.ts'
import type { Stage } from '../../e2e/kit/stage.ts'
import type { Host } from './lan.ts'

/** Paths of random bytes, the first of which refers to all others, in a binary cache in a folder. */
export interface Closure {
  readonly publicKey: string
  readonly dir: string
  readonly nars: readonly BenchNar[]
  /** Store path of the first. */
  readonly top: string
  /** NARs together. */
  readonly bytes: number
}

export async function makeClosure(stage: Stage, name: string, sizes: readonly number[]): Promise<Closure> {
  const dir = join(stage.dir, `cache-${name}`)
  const cache = await createCache(dir)
  const others: BenchNar[] = []
  const [first = 0, ...rest] = sizes
  for (const [at, size] of rest.entries()) others.push(await cache.add(`${name}-${at + 1}`, randomNar(size)))
  const references = others.map(({ storePath }) => storePath)
  const top = await cache.add(`${name}-0`, randomNar(first), { references })
  const nars = [top, ...others]
  return {
    publicKey: cache.publicKey,
    dir,
    nars,
    top: pathOf(top),
    bytes: nars.reduce((sum, { narSize }) => sum + narSize, 0),
  }
}

export function pathOf({ storePath }: BenchNar): string {
  return `/nix/store/${storePath}`
}

/** A Nix on the host that has the closure already. */
export async function openNixWith(stage: Stage, host: Host, closure: Closure): Promise<NixMachine> {
  const nix = await openNixMachine(stage, `nix-${host.name}`, host.place)
  const from = { url: `file://${closure.dir}`, publicKey: closure.publicKey }
  const { ok, stderr } = await nix.realise([closure.top], from)
  if (!ok) throw new Error(`the closure is not there: ${stderr}`)
  return nix
}
