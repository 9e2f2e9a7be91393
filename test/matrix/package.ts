/** One signed package, as a healthy cache has it: what all faults are done to. */
import { sha256 } from '../../src/dag/cid.ts'
import { narHashFromDigest } from '../../src/nix/hash.ts'
import { formatNarInfo } from '../../src/nix/narinfo.ts'
import type { NarInfo } from '../../src/nix/narinfo.ts'
import { hashPartOf } from '../../src/nix/store-path.ts'
import type { HashPart } from '../../src/nix/store-path.ts'
import { STORE_DIR } from '../nix/genuine.ts'
import { fileOf, narBytes } from '../nix/nar-tree.ts'
import type { Contents } from '../nix/nar-tree.ts'
import { noise, planOf } from '../spool/kit.ts'
import { narInfoOf, pathNamed } from '../substitute/kit.ts'
import { storeXz } from '../upstream/store-xz.ts'

export interface Package {
  readonly nar: Buffer
  readonly info: NarInfo
  readonly hashPart: HashPart
  /** The narinfo's text. */
  readonly text: string
  /** What lies at the narinfo's URL. */
  readonly file: Buffer
  /** Another package's, as good in itself. */
  readonly otherFile: Buffer
  /** Root of the NAR's DAG. */
  readonly root: string
}

/**
 * @param bytes of its one file; the NAR has a little more
 * @param cid whether the narinfo tells the root
 */
export function makePackage(bytes: number, compression: 'xz' | 'none', { cid = false } = {}): Package {
  const pack = compression === 'xz' ? storeXz : (bytes: Buffer) => bytes
  const nar = narOf(bytes, 'asked for')
  const file = pack(nar)
  const plan = planOf(nar)
  const root = plan.root.toString()
  const info: NarInfo = {
    ...narInfoOf(plan, 'matrix-1.0'),
    url: `nar/${plan.narHash}.nar${compression === 'xz' ? '.xz' : ''}`,
    compression,
    fileHash: narHashFromDigest(sha256(file)),
    fileSize: file.length,
    deriver: pathNamed('matrix-1.0.drv'),
    ...(cid ? { cid: root } : {}),
  }
  return {
    nar,
    info,
    hashPart: hashPartOf(info.storePath),
    text: formatNarInfo(info, STORE_DIR),
    file,
    otherFile: pack(narOf(bytes + 4096, 'another')),
    root,
  }
}

function narOf(bytes: number, seed: string): Buffer {
  const contents: Contents = new Map()
  return narBytes({ root: fileOf(contents, noise(bytes, seed)), contents })
}
