import { execFile } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

/** apt with lists and a cache of its own: the machine's stay as they are. Checks all that it has by Debian's keys. */
export interface Apt {
  /** `apt-get` in a folder. @throws AptError */
  get(cwd: string, ...args: string[]): Promise<void>
  /** Published versions of a package, newest first. */
  versions(packageName: string): Promise<string[]>
}

/** Something could not be had; the message is apt's own. */
export class AptError extends Error {
  override readonly name = 'AptError'
}

const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg'
const MIRROR = process.env['NARSWARM_DEBIAN_MIRROR'] ?? 'http://deb.debian.org/debian'
const APT_DEADLINE_MS = 180_000

/** Where a suite keeps what it fetched or made, from run to run: outside of the checkout, as little of it is ours to pass on. */
export function keptDir(name: string): string {
  return join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'narswarm', name)
}

/**
 * With its lists up to date.
 *
 * @param dir its own
 * @param suites such as `deb-src bookworm`; those named `-security` are on a mirror beside
 * @throws AptError
 */
export async function openApt(dir: string, suites: readonly string[]): Promise<Apt> {
  for (const name of ['lists/partial', 'archives/partial']) await mkdir(join(dir, name), { recursive: true })
  const list = join(dir, 'sources.list')
  await writeFile(list, suites.map((suite) => `${lineOf(suite)}\n`).join(''))
  const options = [
    `Dir::Etc::SourceList=${list}`,
    'Dir::Etc::SourceParts=-',
    `Dir::State::Lists=${join(dir, 'lists')}`,
    `Dir::Cache=${dir}`,
    'APT::Update::Error-Mode=any',
  ].flatMap((option) => ['-o', option])
  const run = async (program: string, cwd: string, args: readonly string[]): Promise<string> => {
    try {
      const done = await promisify(execFile)(program, ['--quiet=2', ...options, ...args], {
        cwd,
        timeout: APT_DEADLINE_MS,
        maxBuffer: 2 ** 26,
      })
      return done.stdout
    } catch (error) {
      const { stderr = '', message } = error as Error & { stderr?: string }
      const reason = stderr.split('\n').find((line) => line.startsWith('E:')) ?? message
      throw new AptError(`${program} ${args.join(' ')} (${MIRROR}): ${reason}`, { cause: error })
    }
  }
  await run('apt-get', dir, ['update'])
  return {
    async get(cwd, ...args) {
      await run('apt-get', cwd, args)
    },
    async versions(packageName) {
      const lines = (await run('apt-cache', dir, ['madison', packageName])).split('\n')
      const found = lines
        .map((line) => line.split('|').map((field) => field.trim()))
        .flatMap(([name, version = '', origin]) =>
          name === packageName && origin?.endsWith(' Packages') ? [version] : [],
        )
      return [...new Set(found)]
    },
  }
}

function lineOf(suite: string): string {
  const [type = '', name = ''] = suite.split(' ')
  const mirror = name.endsWith('-security') ? MIRROR.replace(/\/debian\/?$/, '/debian-security') : MIRROR
  return `${type} [signed-by=${KEYRING}] ${mirror} ${name} main`
}
