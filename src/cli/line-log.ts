import type { Log } from '../log.ts'
import type { Output } from './output.ts'

/**
 * The log of a command that ends: warnings and errors, one line each for a person. `serve` has a real one.
 *
 * @param verbose tells all, with its fields
 */
export function createLineLog(output: Output, verbose: boolean): Log {
  const loud = (fields: object, message: string): void =>
    output.complain(verbose ? `${message} ${JSON.stringify(fields)}` : message)
  const quiet = verbose ? loud : (): void => {}
  return { debug: quiet, info: quiet, warn: loud, error: loud }
}
