/** A name in its two parts, as `nix-env` tells packages and versions apart: `hello` and `2.12.1`. */
export interface PackageName {
  readonly packageName: string
  /** Empty when there is none. */
  readonly version: string
}

/**
 * Nix's own rule (builtins.parseDrvName; libstore/names.cc, DrvName): the first dash that something other than a letter
 * follows. The trap: an output's suffix belongs to the version (`hello-2.12.1-doc`), and a dash at the end is no version.
 */
export function splitName(name: string): PackageName {
  const dash = name.search(/-[^A-Za-z]/)
  return dash < 0
    ? { packageName: name, version: '' }
    : { packageName: name.slice(0, dash), version: name.slice(dash + 1) }
}
