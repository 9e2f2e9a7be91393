import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFile, mkdir, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { text } from 'node:stream/consumers'
import { DatabaseSync } from 'node:sqlite'
import { nixCommand } from '../../kit/nix.ts'
import { here } from './place.ts'
import type { Stage } from './stage.ts'

/** A machine with a Nix of its own, as far as Nix can tell: another store root, and nothing remembered from before. */
export interface NixMachine {
  /** The store is physically below it, its paths are still those of /nix/store. */
  readonly root: string
  /** Builds the attribute of a Nix file. @returns the output's store path */
  build(file: string, attribute: string, args?: readonly string[]): Promise<string>
  /** Installs the paths with their closure from one substituter, without building anything. */
  realise(paths: readonly string[], from: Substituter): Promise<Outcome>
  /** Copies the closure into a binary cache; `cache` is a URL as `nix copy --to` takes it. */
  copyTo(cache: string, paths: readonly string[]): Promise<void>
  /** Hashes all that the store has. @throws when anything is wrong */
  verify(): Promise<void>
  validPaths(): ValidPath[]
}

export interface Substituter {
  /** Several ones with spaces between them, in the order in which they are to be asked. */
  readonly url: string
  /** As in trusted-public-keys. */
  readonly publicKey: string
  /** How often a download is tried; ten times otherwise, with pauses of up to a minute. */
  readonly attempts?: number
}

export interface Outcome {
  readonly ok: boolean
  readonly stderr: string
}

export interface ValidPath {
  readonly path: string
  /** `sha256:` and base 16. */
  readonly hash: string
  readonly narSize: number
  readonly references: readonly string[]
  readonly sigs: string
}

/** What a builder finds of this machine. */
const SANDBOX_PATHS = '/bin /usr /lib /lib64'

export async function openNixMachine(stage: Stage, name: string, place = here): Promise<NixMachine> {
  const dir = join(stage.dir, name)
  const root = join(dir, 'root')
  const confDir = join(dir, 'conf')
  await mkdir(confDir, { recursive: true })
  await writeFile(join(confDir, 'nix.conf'), 'build-users-group =\nsubstituters =\nmax-jobs = 4\n')
  const env = {
    PATH: process.env['PATH'] ?? '',
    HOME: join(dir, 'home'),
    NIX_CONF_DIR: confDir,
    NIX_USER_CONF_FILES: '',
  }
  let told = ''
  stage.keepLog(`nix on ${name}`, () => told.slice(-20_000))

  const run = async (program: string, args: readonly string[]): Promise<Outcome & { stdout: string }> => {
    const child = spawn(...place(...nixCommand(program, ['--store', root, ...args])), {
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
      signal: stage.signal,
    })
    const exited = once(child, 'exit') as Promise<[number | null]>
    const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), exited])
    told += `$ ${program} ${args.join(' ')}\n${stderr}(exit code ${code})\n`
    return { ok: code === 0, stdout, stderr }
  }
  const mustRun = async (program: string, args: readonly string[]): Promise<string> => {
    const { ok, stdout, stderr } = await run(program, args)
    if (!ok) throw new Error(`${program} ${args.join(' ')} failed: ${stderr}`)
    return stdout
  }
  // Nix makes the store's folders and database at its first use.
  await mustRun('nix-store', ['--init'])

  return {
    root,
    async build(file, attribute, args = []) {
      // A Nix with another root folder sees the stage, but not the checkout.
      const copy = join(dir, basename(file))
      await copyFile(file, copy)
      const sandbox = ['--option', 'sandbox', 'true', '--option', 'sandbox-paths', SANDBOX_PATHS]
      return (
        await mustRun('nix-build', [copy, '-A', attribute, '--no-out-link', ...sandbox, ...args])
      ).trim()
    },
    realise(paths, { url, publicKey, attempts = 10 }) {
      const settings = {
        substituters: url,
        'trusted-public-keys': publicKey,
        'download-attempts': String(attempts),
        'connect-timeout': '5',
        'stalled-download-timeout': '30',
      }
      const options = Object.entries(settings).flatMap(([key, value]) => ['--option', key, value])
      return run('nix-store', ['--realise', ...paths, ...options])
    },
    async copyTo(cache, paths) {
      await mustRun('nix', ['--extra-experimental-features', 'nix-command', 'copy', '--to', cache, ...paths])
    },
    async verify() {
      await mustRun('nix-store', ['--verify', '--check-contents'])
    },
    validPaths() {
      const db = new DatabaseSync(join(root, 'nix/var/nix/db/db.sqlite'), { readOnly: true })
      try {
        const references = db.prepare(
          'select path from Refs join ValidPaths on id = reference where referrer = ? order by path',
        )
        return db
          .prepare('select id, path, hash, narSize, sigs from ValidPaths order by path')
          .all()
          .map((row) => ({
            path: String(row['path']),
            hash: String(row['hash']),
            narSize: Number(row['narSize']),
            references: references.all(row['id'] ?? null).map((one) => String(one['path'])),
            sigs: String(row['sigs']),
          }))
      } finally {
        db.close()
      }
    },
  }
}

/** Those of `paths` and all that they refer to. */
export function closureOf(all: readonly ValidPath[], top: string): ValidPath[] {
  const byPath = new Map(all.map((one) => [one.path, one]))
  const found = new Set<ValidPath>()
  const visit = (path: string): void => {
    const one = byPath.get(path)
    if (one === undefined) throw new Error(`${path} is not valid`)
    if (found.has(one)) return
    found.add(one)
    one.references.forEach(visit)
  }
  visit(top)
  return all.filter((one) => found.has(one))
}
