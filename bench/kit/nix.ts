/** A real Nix with a store of its own, below a folder that nobody else uses. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { StorePath } from '../../src/nix/store-path.ts'
import { call } from './program.ts'

/** NARs at once: Nix's own default is one, which no one keeps who waits. */
export const NIX_MAX_JOBS = 4

/** Installs it with all that it refers to. @returns where the store is physically, and how long that took */
export async function nixRealise(
  dir: string,
  storePath: StorePath,
  { url, publicKey }: { url: string; publicKey: string },
): Promise<{ root: string; ms: number }> {
  await mkdir(join(dir, 'conf'), { recursive: true })
  await writeFile(
    join(dir, 'conf', 'nix.conf'),
    `build-users-group =\nsubstituters = ${url}\ntrusted-public-keys = ${publicKey}\nmax-jobs = ${NIX_MAX_JOBS}\n`,
  )
  const env = {
    PATH: process.env['PATH'] ?? '',
    HOME: join(dir, 'home'),
    NIX_CONF_DIR: join(dir, 'conf'),
    NIX_USER_CONF_FILES: '',
  }
  const root = join(dir, 'root')
  await call('nix-store', ['--store', root, '--init'], { env })
  const { ms } = await call('nix-store', ['--store', root, '-r', `/nix/store/${storePath}`], { env })
  // Nix takes our right to delete.
  await call('chmod', ['-R', 'u+w', root])
  return { root, ms }
}
