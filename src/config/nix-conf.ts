/**
 * What nix.conf says about substituters and trusted keys: the same files, in the same order, by the same rules as Nix
 * reads them (libutil/config.cc): `name = value`, `#` starts a comment, later lines win, `extra-` appends,
 * `include` must be there and `!include` may.
 */
import { dirname, join, resolve } from 'node:path'
import { NIX_CONF_MAX_BYTES, NIX_CONF_MAX_FILES_COUNT, NIX_CONF_MAX_INCLUDES } from '../limits.ts'
import { NIXOS_CACHE, NIXOS_KEY } from './schema.ts'

export interface NixConf {
  /** Absent: no file says anything, and Nix's own default counts. */
  readonly substituters: readonly string[] | undefined
  readonly trustedPublicKeys: readonly string[] | undefined
  /** Files that were read. */
  readonly files: readonly string[]
}

/** The text of a file; undefined when it is not there or not for us to read. */
export type ReadText = (path: string) => string | undefined

const SETTINGS = ['substituters', 'trusted-public-keys'] as const
/** Nix's own, which `extra-` adds to. */
const DEFAULTS: Readonly<Record<string, readonly string[]>> = {
  substituters: [NIXOS_CACHE],
  'trusted-public-keys': [NIXOS_KEY],
}
/** Names that Nix 1 had, still in many files. */
const ALIASES: Readonly<Record<string, string>> = {
  'binary-caches': 'substituters',
  'binary-cache-public-keys': 'trusted-public-keys',
}

export function readNixConf(read: ReadText, env: Readonly<Record<string, string | undefined>>): NixConf {
  const values = new Map<string, string[]>()
  const files: string[] = []

  const apply = (name: string, words: string[]): void => {
    const extra = name.startsWith('extra-')
    const plain = extra ? name.slice('extra-'.length) : name
    const setting = ALIASES[plain] ?? plain
    if (!(SETTINGS as readonly string[]).includes(setting)) return
    values.set(setting, extra ? [...(values.get(setting) ?? DEFAULTS[setting] ?? []), ...words] : words)
  }

  const readText = (text: string, directory: string, depth: number): void => {
    for (const line of text.slice(0, NIX_CONF_MAX_BYTES).split('\n')) {
      const words = line.replace(/#.*/, '').trim().split(/\s+/).filter(Boolean)
      const [first, second, ...rest] = words
      if (first === undefined || second === undefined) continue
      if (first === 'include' || first === '!include') readFile(resolve(directory, second), depth + 1)
      else if (second === '=') apply(first, rest)
    }
  }

  const readFile = (path: string, depth: number): void => {
    // Counted, not nested alone: a file that includes itself twice would be read 2^depth times.
    if (depth > NIX_CONF_MAX_INCLUDES || files.length >= NIX_CONF_MAX_FILES_COUNT) return
    const text = read(path)
    if (text === undefined) return
    files.push(path)
    readText(text, dirname(path), depth)
  }

  readFile(join(env['NIX_CONF_DIR'] ?? '/etc/nix', 'nix.conf'), 0)
  for (const path of userFiles(env).toReversed()) readFile(path, 0)
  readText(env['NIX_CONFIG'] ?? '', '/', 0)

  return {
    substituters: unique(values.get('substituters')),
    trustedPublicKeys: unique(values.get('trusted-public-keys')),
    files,
  }
}

/** The most important first, as Nix's getUserConfigFiles has them; they are read in the other order. */
function userFiles(env: Readonly<Record<string, string | undefined>>): string[] {
  const named = env['NIX_USER_CONF_FILES']
  if (named !== undefined) return named.split(':').filter(Boolean)
  const home = env['HOME']
  const own = env['XDG_CONFIG_HOME'] ?? (home === undefined ? undefined : join(home, '.config'))
  const shared = (env['XDG_CONFIG_DIRS'] ?? '/etc/xdg').split(':').filter(Boolean)
  return [...(own === undefined ? [] : [own]), ...shared].map((folder) => join(folder, 'nix', 'nix.conf'))
}

function unique(words: readonly string[] | undefined): string[] | undefined {
  return words === undefined ? undefined : [...new Set(words)]
}
