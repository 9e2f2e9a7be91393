/** A binary cache in a folder, signed with a key made for the occasion: what `nix copy --to file://…` would leave. */
import { createHash } from 'node:crypto'
import { mkdir, open, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { formatCacheInfo } from '../../nix/cache-info.ts'
import { fingerprint } from '../../nix/fingerprint.ts'
import { narHashFromDigest } from '../../nix/hash.ts'
import type { SecretKey } from '../../nix/key.ts'
import { layoutNar } from '../../nix/nar-layout.ts'
import { formatNarInfo } from '../../nix/narinfo.ts'
import { sign } from '../../nix/signature.ts'
import { hashPartOf } from '../../nix/store-path.ts'
import type { CallOptions } from '../../source.ts'
import { streamNar } from '../../store/nar-stream.ts'
import { walkStorePath } from '../../store/walk.ts'
import type { DemoPackage } from './packages.ts'

export async function writeFolderCache(
  dir: string,
  packages: readonly DemoPackage[],
  config: { key: SecretKey; storeDir: string },
  options: CallOptions,
): Promise<void> {
  const { key, storeDir } = config
  await mkdir(join(dir, 'nar'), { recursive: true })
  await writeFile(
    join(dir, 'nix-cache-info'),
    formatCacheInfo({ storeDir, wantMassQuery: true, priority: 30 }),
  )
  for (const { storePath, references, path } of packages) {
    const layout = layoutNar(await walkStorePath(path, options))
    const hash = createHash('sha256')
    const temporary = join(dir, 'nar', `${hashPartOf(storePath)}.tmp`)
    const file = await open(temporary, 'wx')
    try {
      for await (const bytes of streamNar(layout, { start: 0, end: layout.narSize }, options)) {
        hash.update(bytes)
        await file.write(bytes)
      }
    } finally {
      await file.close()
    }
    const signed = {
      storePath,
      narHash: narHashFromDigest(hash.digest()),
      narSize: layout.narSize,
      references,
    }
    const url = `nar/${signed.narHash}.nar`
    await rename(temporary, join(dir, url))
    const signatures = [sign(key, fingerprint(signed, storeDir))]
    await writeFile(
      join(dir, `${hashPartOf(storePath)}.narinfo`),
      formatNarInfo({ ...signed, url, compression: 'none', signatures }, storeDir),
    )
  }
}
