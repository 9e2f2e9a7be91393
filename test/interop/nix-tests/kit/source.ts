import { access, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { AptError, keptDir, openApt } from '../../../kit/apt.ts'

/** Of the package in Debian bookworm, whose client is the one of the same machine. */
export const VERSION = '2.8.0'
const TARBALL = `nix_${VERSION}.orig.tar.xz`

/** Why there is nothing to run here. */
export class SourceUnavailableError extends Error {
  override readonly name = 'SourceUnavailableError'
}

/**
 * Debian's source package, had once and kept outside of the checkout: it is under the LGPL and nothing of it is ours to
 * pass on.
 * @returns the path of the tarball
 * @throws SourceUnavailableError
 */
export async function debianSource(): Promise<string> {
  const kept = keptDir('nix-tests')
  const tarball = join(kept, TARBALL)
  if (await exists(tarball)) return tarball

  try {
    await mkdir(kept, { recursive: true })
    const apt = await openApt(kept, ['deb-src bookworm'])
    await apt.get(kept, 'source', '--download-only', 'nix')
  } catch (error) {
    if (!(error instanceof AptError)) throw error
    throw new SourceUnavailableError(`no source package of Nix ${VERSION}: ${error.message}`, {
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
