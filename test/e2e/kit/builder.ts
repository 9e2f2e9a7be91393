import { randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { formatPublicKey, formatSecretKey, generateSecretKey } from '../../../src/nix/key.ts'
import { closureOf, openNixMachine } from './nix-machine.ts'
import type { NixMachine, ValidPath } from './nix-machine.ts'
import type { Stage } from './stage.ts'

/** A machine that has built something, and signed it with a key of its own. */
export interface Builder extends NixMachine {
  /** As in trusted-public-keys. */
  readonly publicKey: string
  /** The store path asked for. */
  readonly top: string
  readonly closure: readonly ValidPath[]
  /** Builds another attribute, signed with the same key. @returns its store path */
  also: (attribute: string, args?: readonly string[]) => Promise<string>
}

const PACKAGES = fileURLToPath(new URL('packages.nix', import.meta.url))
export const KEY_NAME = 'e2e-1'

/** @param attribute of packages.nix @param args of `nix-build`, such as packages.nix takes */
export async function openBuilder(
  stage: Stage,
  attribute: string,
  args: readonly string[] = [],
): Promise<Builder> {
  const key = generateSecretKey(KEY_NAME, randomBytes)
  const keyFile = join(stage.dir, 'secret-key')
  await writeFile(keyFile, `${formatSecretKey(key)}\n`, { mode: 0o600 })
  const machine = await openNixMachine(stage, 'builder')
  const also = (one: string, more: readonly string[] = []): Promise<string> =>
    machine.build(PACKAGES, one, ['--option', 'secret-key-files', keyFile, ...more])
  const top = await also(attribute, args)
  const closure = closureOf(machine.validPaths(), top)
  return { ...machine, publicKey: formatPublicKey(key.publicKey), top, closure, also }
}
