import { createPlanner } from '../dag/planner.ts'
import { NarFormatError, createNarReader } from '../nix/nar-reader.ts'
import { isHashPart, hashPartOf, parseStorePath } from '../nix/store-path.ts'
import type { HashPart } from '../nix/store-path.ts'
import type { CallOptions } from '../source.ts'
import { NoSourceError } from '../substitute/errors.ts'
import { vouchers } from '../substitute/policy.ts'
import type { Resolver } from '../substitute/resolve.ts'
import type { Transfers } from '../substitute/transfers.ts'
import { RequestError, VerificationError } from './operations.ts'
import type { VerifyReport } from './operations.ts'

/** As the command line takes it: a store path or its hash part. @throws RequestError */
export function parsePathArgument(text: string, storeDir: string): HashPart {
  if (isHashPart(text)) return text
  try {
    return hashPartOf(parseStorePath(text, storeDir))
  } catch (cause) {
    throw new RequestError(cause instanceof Error ? cause.message : 'not a store path', { cause })
  }
}

/**
 * Reads every byte through the strict NAR reader and the planner: the signature, NarHash, NAR format and CID are all
 * proved anew, whatever was proved before.
 *
 * @throws RequestError, VerificationError
 */
export async function verifyPath(
  text: string,
  deps: { resolver: Resolver; transfers: Transfers },
  config: { storeDir: string },
  options: CallOptions,
): Promise<VerifyReport> {
  const info = await deps.resolver.byHashPart(parsePathArgument(text, config.storeDir), options)
  if (info === undefined) {
    throw new RequestError(`no source has a narinfo of ${text} with a signature by a trusted key`)
  }
  const planner = createPlanner()
  const reader = createNarReader({ narSize: info.narSize })
  const whole = { start: 0, end: info.narSize }
  try {
    const transfer = await deps.transfers.open(info, whole, options)
    for await (const bytes of transfer.read(whole, options)) {
      planner.update(bytes)
      reader.push(bytes)
    }
    reader.end()
  } catch (cause) {
    if (cause instanceof NoSourceError) throw new RequestError(cause.message, { cause })
    if (cause instanceof NarFormatError) {
      throw new VerificationError(`${info.storePath}: ${cause.message}`, { cause })
    }
    throw cause
  }
  const plan = planner.finish()
  if (plan.narHash !== info.narHash) {
    throw new VerificationError(
      `${info.storePath}: expected NarHash ${info.narHash}, its bytes hash to ${plan.narHash}`,
    )
  }
  const cid = plan.root.toString()
  return {
    path: `${config.storeDir}/${info.storePath}`,
    narHash: info.narHash,
    narSize: info.narSize,
    keys: vouchers(info),
    cid,
    ...(info.cid === undefined || info.cid === cid ? {} : { wrongCid: info.cid }),
  }
}
