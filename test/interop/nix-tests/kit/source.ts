import { execFile } from 'node:child_process'
import { access, mkdir, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

/** Of the package in Debian bookworm, whose client is the one of the same machine. */
export const VERSION = '2.8.0'
const TARBALL = `nix_${VERSION}.orig.tar.xz`
const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg'
const MIRROR = process.env['NARSWARM_DEBIAN_MIRROR'] ?? 'http://deb.debian.org/debian'
const APT_DEADLINE_MS = 180_000

/** Why there is nothing to run here. */
export class SourceUnavailableError extends Error {
  override readonly name = 'SourceUnavailableError'
}

/**
 * Debian's source package, had once and kept outside of the checkout: it is under the LGPL and nothing of it is ours to
 * pass on. apt checks it against Debian's keys; it has lists and a cache of its own there, and the machine's stay as they are.
 * @returns the path of the tarball
 * @throws SourceUnavailableError
 */
export async function debianSource(): Promise<string> {
  const cache = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'narswarm', 'nix-tests')
  const tarball = join(cache, TARBALL)
  if (await exists(tarball)) return tarball

  for (const dir of ['lists/partial', 'archives/partial']) await mkdir(join(cache, dir), { recursive: true })
  const list = join(cache, 'sources.list')
  await writeFile(list, `deb-src [signed-by=${KEYRING}] ${MIRROR} bookworm main\n`)
  const options = [
    `Dir::Etc::SourceList=${list}`,
    'Dir::Etc::SourceParts=-',
    `Dir::State::Lists=${join(cache, 'lists')}`,
    `Dir::Cache=${cache}`,
    'APT::Update::Error-Mode=any',
  ].flatMap((option) => ['-o', option])
  const apt = (...args: string[]): Promise<unknown> =>
    promisify(execFile)('apt-get', ['--quiet=2', ...options, ...args], {
      cwd: cache,
      timeout: APT_DEADLINE_MS,
    })
  try {
    await apt('update')
    await apt('source', '--download-only', 'nix')
  } catch (error) {
    const { stderr = '', message } = error as Error & { stderr?: string }
    const reason = stderr.split('\n').find((line) => line.startsWith('E:')) ?? message
    throw new SourceUnavailableError(`no source package of Nix ${VERSION} from ${MIRROR}: ${reason}`, {
      cause: error,
    })
  }
  if (!(await exists(tarball)))
    throw new SourceUnavailableError(`Debian's source package of Nix has no ${TARBALL}`)
  return tarball
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}
