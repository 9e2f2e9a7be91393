import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { access, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { promisify } from 'node:util'
import { AptError } from '../../kit/apt.ts'
import { formatPublicKey, formatSecretKey, generateSecretKey } from '../../../src/nix/key.ts'
import { openNixMachine } from '../../e2e/kit/nix-machine.ts'
import type { NixMachine } from '../../e2e/kit/nix-machine.ts'
import type { Place } from '../../e2e/kit/place.ts'
import type { Stage } from '../../e2e/kit/stage.ts'

/** What was built once, signed, and is kept in a binary cache. */
export interface Generations {
  /** `file:` URL of the cache. */
  readonly cache: string
  /** As in trusted-public-keys. */
  readonly publicKey: string
  /** Store paths that refer to all of a generation, by its name. */
  readonly tops: Readonly<Record<string, string>>
}

/** Builds an attribute of a Nix file, and signs it. @returns its store path */
type Build = (file: string, attribute: string, args: readonly string[]) => Promise<string>

/** What is built here takes its time, and nobody waits for it. */
const nicely: Place = (program, args) => ['nice', ['-n', '19', program, ...args]]

/** @param dir where they are kept; what has this name was made by the same `make` */
export async function keptGenerations(
  stage: Stage,
  dir: string,
  make: (build: Build) => Promise<Record<string, string>>,
): Promise<Generations> {
  const description = join(dir, 'generations.json')
  if (!(await exists(description))) {
    const unfinished = `${dir}.unfinished`
    await rm(unfinished, { recursive: true, force: true })
    await mkdir(unfinished, { recursive: true })
    const made = await makeAll(stage, `file://${unfinished}`, make)
    await writeFile(join(unfinished, 'generations.json'), JSON.stringify(made))
    await rename(unfinished, dir)
  }
  const made = JSON.parse(await readFile(description, 'utf8')) as Omit<Generations, 'cache'>
  return { ...made, cache: `file://${dir}` }
}

async function makeAll(
  stage: Stage,
  cache: string,
  make: (build: Build) => Promise<Record<string, string>>,
): Promise<Omit<Generations, 'cache'>> {
  const key = generateSecretKey('upgrade-1', randomBytes)
  const keyFile = join(stage.dir, 'secret-key')
  await writeFile(keyFile, `${formatSecretKey(key)}\n`, { mode: 0o600 })
  const machine = await openNixMachine(stage, 'builder', nicely)
  const options = ['--option', 'secret-key-files', keyFile, '--max-jobs', '1', '--cores', '1']
  const tops = await make((file, attribute, args) => machine.build(file, attribute, [...options, ...args]))
  // The lowest level: it is here to be undone.
  await machine.copyTo(`${cache}?compression=xz&compression-level=0`, Object.values(tops))
  return { publicKey: formatPublicKey(key.publicKey), tops }
}

/** A machine that has these generations, with all that is in them. */
export async function openMachineWith(
  stage: Stage,
  name: string,
  { cache, publicKey, tops }: Generations,
  generations: readonly string[],
): Promise<NixMachine> {
  const machine = await openNixMachine(stage, name)
  const paths = generations.map((generation) => topOf(tops, generation))
  const { ok, stderr } = await machine.realise(paths, { url: cache, publicKey })
  if (!ok) throw new Error(`${name} could not be set up: ${stderr}`)
  return machine
}

export function topOf(tops: Generations['tops'], generation: string): string {
  const top = tops[generation]
  if (top === undefined) throw new Error(`no generation ${generation}`)
  return top
}

/** @returns undefined, and `t` is skipped, when Debian's packages cannot be had */
export async function orSkip(
  t: TestContext,
  generations: Promise<Generations>,
): Promise<Generations | undefined> {
  try {
    return await generations
  } catch (error) {
    if (!(error instanceof AptError)) throw error
    t.skip(error.message)
    return undefined
  }
}

/** What may differ between two machines though the expressions are the same. */
export async function compilerVersion(): Promise<string> {
  const { stdout } = await promisify(execFile)('gcc', ['--version'])
  return stdout.split('\n', 1).join('')
}

export async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}
