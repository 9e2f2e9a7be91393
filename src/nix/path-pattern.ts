import { quote } from './quote.ts'
import { isHashPart, nameOf } from './store-path.ts'
import type { StorePath } from './store-path.ts'

/** A glob over names of store paths: `*` is any run of characters, `?` any one. */
export interface PathPattern {
  /** As it was written. */
  readonly text: string
  matches(path: StorePath): boolean
}

/** Those of a name, and the two wildcards, of which `?` may stand in a name too. */
const CHARACTERS = /^[0-9A-Za-z+._?=*-]+$/
/** Longer than any base name, so that it could not match one but by stars. */
const MAX_CHARS = 512
const HASHED = /^(.{32})-/

/**
 * `secret-*` is for the name after the hash part; what itself begins with a hash part, such as
 * `7c5zrpajq5ydlg2zbbnfs1l4lwbxsdqq-hello-2.12.1`, is for the whole base name. Upper and lower case differ.
 *
 * @throws RangeError
 */
export function parsePathPattern(text: string): PathPattern {
  if (!CHARACTERS.test(text) || text.length > MAX_CHARS) {
    throw new RangeError(
      `expected a name of a store path without its folder, such as secret-* or a full base name, got ${quote(text)}`,
    )
  }
  const [, start = ''] = HASHED.exec(text) ?? []
  const hashed = isHashPart(start)
  return { text, matches: (path) => matchesGlob(text, hashed ? path : nameOf(path)) }
}

/** Goes back to the last star alone, which is enough: no pattern makes it slow. */
function matchesGlob(pattern: string, name: string): boolean {
  let p = 0
  let n = 0
  let star = -1
  let resumeAt = 0
  while (n < name.length) {
    const wanted = pattern[p]
    if (wanted === '*') {
      star = p++
      resumeAt = n
    } else if (wanted === '?' || wanted === name[n]) {
      p++
      n++
    } else if (star >= 0) {
      p = star + 1
      n = ++resumeAt
    } else {
      return false
    }
  }
  while (pattern[p] === '*') p++
  return p === pattern.length
}
