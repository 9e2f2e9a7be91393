import assert from 'node:assert/strict'
import { once } from 'node:events'
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { constants, createZstdCompress } from 'node:zlib'
import { nixCommand } from '../../kit/nix.ts'
import type { Consumer } from '../../e2e/kit/consumer.ts'
import type { CountingProxy } from '../../e2e/kit/counting-proxy.ts'
import { closureOf } from '../../e2e/kit/nix-machine.ts'
import type { NixMachine, ValidPath } from '../../e2e/kit/nix-machine.ts'

/** What the installation of one path took. */
export interface Installed {
  readonly path: ValidPath
  /** Of NARs and their parts, in whatever coding; the rest is what was told of them. */
  readonly narWireBytes: number
  readonly toldWireBytes: number
  /** Of its NAR, by source id. */
  readonly sources: ReadonlyMap<string, number>
}

/** One path after the other, so that it is known what each took. @param paths each after those that it refers to */
export async function installEach(
  consumer: Consumer,
  publicKey: string,
  link: CountingProxy,
  paths: readonly ValidPath[],
): Promise<Installed[]> {
  const installed: Installed[] = []
  for (const path of paths) {
    const first = link.requests.length
    const before = await bytesBySource(consumer)
    const { ok, stderr } = await consumer.realise([path.path], { url: consumer.url, publicKey })
    assert.ok(ok, stderr)
    const after = await bytesBySource(consumer)
    const requests = link.requests.slice(first)
    const bytesOf = (some: CountingProxy['requests']): number =>
      some.reduce((sum, { bytes }) => sum + bytes, 0)
    installed.push({
      path,
      narWireBytes: bytesOf(requests.filter((request) => isOfNar(request.path))),
      toldWireBytes: bytesOf(requests.filter((request) => !isOfNar(request.path))),
      sources: new Map(
        [...after]
          .map(([id, bytes]) => [id, bytes - (before.get(id) ?? 0)] as const)
          .filter(([, bytes]) => bytes > 0),
      ),
    })
  }
  await consumer.verify()
  return installed
}

function isOfNar(path: string): boolean {
  return /^\/(?:nar|ipfs)\//.test(path)
}

async function bytesBySource({ narswarm }: Consumer): Promise<Map<string, number>> {
  const { sources } = await narswarm.status()
  return new Map(sources.map(({ id, bytes }) => [id, bytes]))
}

/** What one closure has and another has not, each after those that it refers to. */
export function changedPaths(machine: NixMachine, before: string, after: string): ValidPath[] {
  const valid = machine.validPaths()
  const old = new Set(closureOf(valid, before).map(({ path }) => path))
  return inOrder(closureOf(valid, after).filter(({ path }) => !old.has(path)))
}

function inOrder(paths: readonly ValidPath[]): ValidPath[] {
  const byPath = new Map(paths.map((one) => [one.path, one]))
  const ordered = new Set<ValidPath>()
  const visit = (one: ValidPath): void => {
    for (const reference of one.references) {
      const other = byPath.get(reference)
      if (other !== undefined && other !== one && !ordered.has(other)) visit(other)
    }
    ordered.add(one)
  }
  paths.forEach(visit)
  return [...ordered]
}

export function nameOfPath(path: string): string {
  return path.replace(/^\/nix\/store\/[^-]*-/, '')
}

/** What the whole NAR is in zstd, level 3. */
export async function zstdBytes({ root }: NixMachine, { path }: ValidPath): Promise<number> {
  const dump = spawn(...nixCommand('nix-store', ['--dump', join(root, path)]), {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const exited = once(dump, 'exit')
  const coded = dump.stdout.pipe(createZstdCompress({ params: { [constants.ZSTD_c_compressionLevel]: 3 } }))
  let bytes = 0
  for await (const part of coded) bytes += (part as Buffer).length
  assert.deepEqual(await exited, [0, null])
  return bytes
}
