import { find } from '../../../bench/kit/program.ts'
import { skipWithoutNix } from '../../kit/nix.ts'

/** For a test's `skip` option: whether this is a machine that has Debian's packages to work with. */
export function skipWithout(programs: readonly string[]): string | false {
  const missing = programs.filter((program) => find(program) === undefined)
  if (missing.length > 0) return `needs Debian's tools; not on PATH: ${missing.join(', ')}`
  return skipWithoutNix()
}
