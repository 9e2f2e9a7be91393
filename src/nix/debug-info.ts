/**
 * `debuginfo/<build id>` of a cache: in which NAR a program's debug symbols are, by a path relative to itself, and where
 * in that NAR (libstore/binary-cache-store.cc, writeDebugInfo). Nobody signs it (docs/adr/013).
 */
import { isNarHash } from './hash.ts'
import type { NarHash } from './hash.ts'

/** A NAR that is named by its NarHash, as newer caches do; a FileHash says nothing of the NAR. */
const ARCHIVE = /^\.\.\/nar\/([^/]{52})\.nar(?:\.[0-9a-z]{1,8})?$/

/** @throws RangeError, SyntaxError; in particular for a NAR named in another way, or another member than that build's */
export function parseDebugInfo(text: string, buildId: string): NarHash {
  const { archive, member } = Object(JSON.parse(text)) as Record<string, unknown>
  if (member !== memberOf(buildId)) throw new RangeError(`debuginfo: expected ${memberOf(buildId)}`)
  const [, narHash = ''] = ARCHIVE.exec(String(archive)) ?? []
  if (!isNarHash(narHash)) throw new RangeError('debuginfo: expected an archive ../nar/<NarHash>.nar')
  return narHash
}

/** For our own `nar/<NarHash>.nar`. */
export function formatDebugInfo(narHash: NarHash, buildId: string): string {
  return JSON.stringify({ archive: `../nar/${narHash}.nar`, member: memberOf(buildId) })
}

function memberOf(buildId: string): string {
  return `lib/debug/.build-id/${buildId.slice(0, 2)}/${buildId.slice(2)}.debug`
}
