import { spawnSync } from 'node:child_process'

/**
 * A Nix command as `spawn` takes it. `NARSWARM_E2E_NIX` holds what is put before each, such as `nsenter …` into
 * another Debian; the temporary folder of the tests must have the same name in there.
 */
export function nixCommand(program: string, args: readonly string[]): [command: string, args: string[]] {
  const prefix = (process.env['NARSWARM_E2E_NIX'] ?? '').split(' ').filter((word) => word !== '')
  const [command = program, ...rest] = [...prefix, program, ...args]
  return [command, rest]
}

/** Whether a real Nix is on PATH. */
export function haveNix(): boolean {
  return spawnSync(...nixCommand('nix-store', ['--version']), { stdio: 'ignore' }).status === 0
}

/** For a test's `skip` option. */
export function skipWithoutNix(): string | false {
  return haveNix() ? false : 'no nix-store on PATH (Debian: apt-get install nix-bin)'
}
