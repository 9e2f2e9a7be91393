import { fingerprint } from '../../src/nix/fingerprint.ts'
import { narHashFromDigest } from '../../src/nix/hash.ts'
import { generateSecretKey, trustedKeys } from '../../src/nix/key.ts'
import { formatNarInfo, parseNarInfo } from '../../src/nix/narinfo.ts'
import type { NarInfo } from '../../src/nix/narinfo.ts'
import { sign, verify } from '../../src/nix/signature.ts'
import { parseStorePathBaseName } from '../../src/nix/store-path.ts'
import { STORE_DIR } from './genuine.ts'

/** A key whose seed is `fill` 32 times. */
export function sampleKey(name: string, fill: number) {
  return generateSecretKey(name, (n) => new Uint8Array(n).fill(fill))
}

/** A small narinfo of our own making, signed by `signer-1`. */
export function sampleNarInfo(): NarInfo {
  const hash = narHashFromDigest(new Uint8Array(32).fill(7))
  const info: NarInfo = {
    storePath: parseStorePathBaseName('7c5zrpajq5ydlg2zbbnfs1l4lwbxsdqq-sample-1.0'),
    url: `nar/${hash}.nar`,
    compression: 'none',
    fileHash: hash,
    fileSize: 206_000,
    narHash: hash,
    narSize: 206_000,
    references: [
      parseStorePathBaseName('7c5zrpajq5ydlg2zbbnfs1l4lwbxsdqq-sample-1.0'),
      parseStorePathBaseName('a6rnjp15qgp8a699dlffqj94hzy1nldg-library-2.32'),
    ],
    deriver: parseStorePathBaseName('m0i10ghpcwhi2dml0dj6b437jjrh8ia3-sample-1.0.drv'),
    signatures: [],
  }
  return { ...info, signatures: [sign(sampleKey('signer-1', 1), fingerprint(info, STORE_DIR))] }
}

export function sampleText(): string {
  return formatNarInfo(sampleNarInfo(), STORE_DIR)
}

/** Whether one of its signatures is by `signer-1`, with the key looked up by name as Nix does it. */
export function isSignedBySample(text: string): boolean {
  const info = parseNarInfo(text, STORE_DIR)
  const keys = trustedKeys([sampleKey('signer-1', 1).publicKey])
  return info.signatures.some((signature) => {
    const key = keys.get(signature.keyName)
    return key !== undefined && verify(key, fingerprint(info, STORE_DIR), signature)
  })
}
