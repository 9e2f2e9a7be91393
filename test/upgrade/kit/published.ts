import { createHash } from 'node:crypto'
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { AptError, keptDir, openApt } from '../../kit/apt.ts'
import type { Apt } from '../../kit/apt.ts'
import type { Stage } from '../../e2e/kit/stage.ts'
import { exists, keptGenerations } from './generations.ts'
import type { Generations } from './generations.ts'

const EXPRESSIONS = fileURLToPath(new URL('published.nix', import.meta.url))
/** Those with security updates more often than not; where a release has taken them up, two versions cannot be had for a while. */
const CANDIDATES = [
  'apache2-bin',
  'bind9-libs',
  'git',
  'libc6',
  'libgs10',
  'libpoppler126',
  'libpython3.11-stdlib',
  'libssl3',
  'perl-base',
  'php8.2-cli',
  'postgresql-15',
  'samba-libs',
]
const SUITES = ['bookworm', 'bookworm-updates', 'bookworm-security'].map((suite) => `deb ${suite}`)

/** Names of the store paths of the two newest versions of a package. */
interface Pair {
  readonly before: string
  readonly after: string
}

/**
 * Packages in two versions that Debian published, `before` and `after`.
 *
 * @param least fewer packages are none
 * @throws AptError
 */
export async function publishedPackages(stage: Stage, least: number): Promise<Generations> {
  const kept = keptDir('upgrade')
  const debs = join(kept, 'debs')
  const pairs = await havePairs(debs, join(kept, 'apt-debs'))
  if (pairs.length < least) {
    throw new AptError(`only ${pairs.length} of ${CANDIDATES.length} packages are there in two versions`)
  }
  const key = createHash('sha256')
    .update(await readFile(EXPRESSIONS))
    .update(JSON.stringify(pairs))
  const dir = join(kept, `published-${key.digest('hex').slice(0, 16)}`)
  return keptGenerations(stage, dir, async (build) => {
    const make = (which: keyof Pair): Promise<string> => {
      const names = pairs.map((pair) => pair[which]).join(' ')
      return build(EXPRESSIONS, 'all', ['--argstr', 'debs', debs, '--argstr', 'names', names])
    }
    return { before: await make('before'), after: await make('after') }
  })
}

/** @returns those in `dir`, from now on the same ones */
async function havePairs(dir: string, aptDir: string): Promise<Pair[]> {
  const list = join(dir, 'pairs.json')
  if (await exists(list)) return JSON.parse(await readFile(list, 'utf8')) as Pair[]

  const apt = await openApt(aptDir, SUITES)
  await mkdir(dir, { recursive: true })
  const pairs: Pair[] = []
  for (const name of CANDIDATES) {
    const [newest, older] = await apt.versions(name)
    if (newest === undefined || older === undefined) continue
    const pair = { before: storeName(name, older), after: storeName(name, newest) }
    try {
      await download(apt, aptDir, `${name}=${older}`, join(dir, `${pair.before}.deb`))
      await download(apt, aptDir, `${name}=${newest}`, join(dir, `${pair.after}.deb`))
    } catch (error) {
      // A mirror need not have all that its lists name.
      if (error instanceof AptError) continue
      throw error
    }
    pairs.push(pair)
  }
  await writeFile(list, JSON.stringify(pairs))
  return pairs
}

async function download(apt: Apt, aptDir: string, what: string, file: string): Promise<void> {
  const dir = join(aptDir, 'download')
  await rm(dir, { recursive: true, force: true })
  await mkdir(dir)
  await apt.get(dir, 'download', what)
  const [name] = await readdir(dir)
  if (name === undefined) throw new AptError(`apt-get download ${what} left no file`)
  await rename(join(dir, name), file)
}

/** Without the epoch, and with the characters that a store path may have. */
function storeName(packageName: string, version: string): string {
  return `${packageName}-${version.replace(/^\d+:/, '').replaceAll(/[^A-Za-z0-9+._?=-]/g, '_')}`
}
