/** What Nix does with a substituter: narinfo, signature, NAR, NarHash. Believes nothing else. */
import { createHash } from 'node:crypto'
import { request } from 'undici'
import { fingerprint } from '../../nix/fingerprint.ts'
import { narHashFromDigest } from '../../nix/hash.ts'
import type { PublicKey } from '../../nix/key.ts'
import { parseNarInfo } from '../../nix/narinfo.ts'
import { verify } from '../../nix/signature.ts'
import { hashPartOf } from '../../nix/store-path.ts'
import type { StorePath } from '../../nix/store-path.ts'
import type { CallOptions } from '../../source.ts'

export interface Installed {
  readonly storePath: StorePath
  readonly narSize: number
  readonly narHash: string
  readonly cid: string | undefined
  readonly tookMs: number
}

export async function installAsNix(
  storePath: StorePath,
  substituter: string,
  config: { key: PublicKey; storeDir: string },
  options: CallOptions,
): Promise<Installed> {
  const begun = performance.now()
  const answer = await request(`${substituter}/${hashPartOf(storePath)}.narinfo`, options)
  const text = await answer.body.text()
  if (answer.statusCode !== 200) throw new Error(`${storePath}: narinfo answered ${answer.statusCode}`)
  const info = parseNarInfo(text, config.storeDir)
  const signed = fingerprint(info, config.storeDir)
  if (info.storePath !== storePath || !info.signatures.some((one) => verify(config.key, signed, one))) {
    throw new Error(`${storePath}: its narinfo is not signed by ${config.key.name}`)
  }
  const nar = await request(`${substituter}/${info.url}`, options)
  if (nar.statusCode !== 200) throw new Error(`${storePath}: NAR answered ${nar.statusCode}`)
  const hash = createHash('sha256')
  for await (const bytes of nar.body as AsyncIterable<Uint8Array>) hash.update(bytes)
  const narHash = narHashFromDigest(hash.digest())
  if (narHash !== info.narHash)
    throw new Error(`${storePath}: expected NarHash ${info.narHash}, got ${narHash}`)
  return { storePath, narSize: info.narSize, narHash, cid: info.cid, tookMs: performance.now() - begun }
}
