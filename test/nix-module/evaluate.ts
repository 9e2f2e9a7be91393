import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { env } from 'node:process'
import { fileURLToPath } from 'node:url'
import { skipWithoutNix } from '../kit/nix.ts'

/** For a test's `skip` option. */
export function skipWithoutNixpkgsLib(): string | false {
  const lib = env['NIXPKGS_LIB']
  if (lib === undefined)
    return 'NIXPKGS_LIB is not set (the lib folder of nixpkgs or nix-community/nixpkgs.lib)'
  if (!existsSync(join(lib, 'modules.nix'))) return `NIXPKGS_LIB=${lib} has no modules.nix`
  return skipWithoutNix()
}

/** Applies the function in a .nix file of this folder. @throws with Nix's own words when the evaluation fails */
export function evaluate(file: string, args: Readonly<Record<string, string>> = {}): unknown {
  const path = fileURLToPath(new URL(file, import.meta.url))
  const given = { libPath: JSON.stringify(resolve(env['NIXPKGS_LIB'] ?? '')), ...args }
  const pairs = Object.entries(given).flatMap(([name, expression]) => ['--arg', name, expression])
  const { status, stdout, stderr } = spawnSync(
    'nix-instantiate',
    ['--eval', '--strict', '--json', path, ...pairs],
    { encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 },
  )
  if (status !== 0) throw new Error(stderr)
  return JSON.parse(stdout)
}
