import { realpath } from 'node:fs/promises'
import { resolve } from 'node:path'
import { isHashPart } from '../nix/store-path.ts'

/**
 * What Nix's own commands take for a path: one below the store stands for its store path, a link into the store (`./result`)
 * for what it points to. All else is left as it is, for the operation to judge.
 */
export async function resolvePathArgument(text: string, storeDir: string, cwd: string): Promise<string> {
  if (isHashPart(text)) return text
  const path = resolve(cwd, text)
  const direct = storePathAbove(path, storeDir)
  if (direct !== undefined) return direct
  try {
    return storePathAbove(await realpath(path), storeDir) ?? text
  } catch {
    return text
  }
}

function storePathAbove(path: string, storeDir: string): string | undefined {
  if (!path.startsWith(`${storeDir}/`)) return undefined
  const [base = ''] = path.slice(storeDir.length + 1).split('/', 1)
  return `${storeDir}/${base}`
}
