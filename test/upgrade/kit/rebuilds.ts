import { createHash } from 'node:crypto'
import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { keptDir, openApt } from '../../kit/apt.ts'
import type { Apt } from '../../kit/apt.ts'
import type { Stage } from '../../e2e/kit/stage.ts'
import { compilerVersion, exists, keptGenerations } from './generations.ts'
import type { Generations } from './generations.ts'

const EXPRESSIONS = fileURLToPath(new URL('rebuilds.nix', import.meta.url))
/** Those of rebuilds.nix. */
const SOURCE_PACKAGES = ['zlib', 'libpng1.6', 'freetype', 'file', 'pcre2', 'rsync', 'curl']

/** What the linker notes in each file: a hash of all of it, or nothing. */
export const BUILD_IDS = ['none', 'sha1'] as const
type BuildId = (typeof BUILD_IDS)[number]

export function generationName(buildId: BuildId, which: 'before' | 'after'): string {
  return `${which} ${buildId}`
}

/** Programs built before and after zlib changed, with build-ids and without. The first time takes a quarter of an hour. @throws AptError */
export async function rebuiltPrograms(stage: Stage): Promise<Generations> {
  const kept = keptDir('upgrade')
  const sources = join(kept, 'sources')
  const unpacked = await haveSources(sources, join(kept, 'apt-sources'))
  const key = createHash('sha256')
    .update(await readFile(EXPRESSIONS))
    .update(JSON.stringify([unpacked, await compilerVersion()]))
  const dir = join(kept, `rebuilds-${key.digest('hex').slice(0, 16)}`)
  return keptGenerations(stage, dir, async (build) => {
    const tops: Record<string, string> = {}
    for (const buildId of BUILD_IDS) {
      for (const [which, generation] of [
        ['before', '1'],
        ['after', '2'],
      ] as const) {
        const args = { sources, generation, buildId }
        const flags = Object.entries(args).flatMap(([name, value]) => ['--argstr', name, value])
        tops[generationName(buildId, which)] = await build(EXPRESSIONS, 'all', flags)
      }
    }
    return tops
  })
}

/** @returns names of the folders that apt unpacked, with their versions */
async function haveSources(dir: string, aptDir: string): Promise<string[]> {
  let apt: Apt | undefined
  const unpacked: string[] = []
  for (const name of SOURCE_PACKAGES) {
    const wanted = join(dir, name)
    if (!(await exists(wanted))) {
      apt ??= await openApt(aptDir, ['deb-src bookworm'])
      const unfinished = join(aptDir, `${name}.unfinished`)
      await rm(unfinished, { recursive: true, force: true })
      await mkdir(unfinished, { recursive: true })
      await apt.get(unfinished, 'source', '--only-source', name)
      await mkdir(dir, { recursive: true })
      await rename(unfinished, wanted)
    }
    const entries = await readdir(wanted, { withFileTypes: true })
    unpacked.push(...entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name))
  }
  return unpacked
}
