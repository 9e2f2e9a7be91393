import { spawnSync } from 'node:child_process'

/** Whether a real Nix is on PATH. */
export function haveNix(): boolean {
  return spawnSync('nix-store', ['--version'], { stdio: 'ignore' }).status === 0
}

/** For a test's `skip` option. */
export function skipWithoutNix(): string | false {
  return haveNix() ? false : 'no nix-store on PATH (Debian: apt-get install nix-bin)'
}
