/** A change of a copy of one of Nix's scripts. */
export interface Patch {
  readonly find: string
  readonly replace: string
  /** How often it is found; once unless said. */
  readonly times?: number
  /** Present where an expectation of Nix's is another one with narswarm in front, and says why that is right. */
  readonly expectation?: string
}

/** @throws Error when the script is not the one that the patches are for */
export function applyPatches(script: string, patches: readonly Patch[]): string {
  let text = script
  for (const { find, replace, times = 1 } of patches) {
    const parts = text.split(find)
    if (parts.length - 1 !== times) {
      throw new Error(`expected ${times} × ${JSON.stringify(find)} in the script, got ${parts.length - 1}`)
    }
    text = parts.join(replace)
  }
  return text
}
