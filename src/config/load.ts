/** From flags, environment, file, nix.conf and defaults to one `Config`. Reads files only through what it is given. */
import { join } from 'node:path'
import { parse as parseToml, TomlError } from 'smol-toml'
import { parsePublicKey } from '../nix/key.ts'
import type { PublicKey } from '../nix/key.ts'
import { formatHostPort, parseHostPort } from './address.ts'
import type { Config, Origin } from './config.ts'
import { ConfigError } from './errors.ts'
import { readNixConf } from './nix-conf.ts'
import type { ReadText } from './nix-conf.ts'
import { configSchema, NIXOS_CACHE, NIXOS_KEY } from './schema.ts'
import type { ConfigFile } from './schema.ts'

export interface ConfigInput {
  /** `--config`. */
  readonly file?: string
  /** Other flags, as nested keys of the file: `{ state_dir: '/x' }`. */
  readonly flags?: Readonly<Record<string, unknown>>
  readonly env: Readonly<Record<string, string | undefined>>
  readonly read: ReadText
  /** uid 0: state goes below /var/lib. */
  readonly isRoot: boolean
}

/** NARSWARM_…: the key it sets, and whether it is a list of words. */
const ENVIRONMENT: Readonly<Record<string, { path: string; list?: true }>> = {
  NARSWARM_PROFILE: { path: 'profile' },
  NARSWARM_STORE_DIR: { path: 'store_dir' },
  NARSWARM_STORE_ROOT: { path: 'store_root' },
  NARSWARM_STATE_DIR: { path: 'state_dir' },
  NARSWARM_UPSTREAMS: { path: 'upstreams', list: true },
  NARSWARM_CACHE_LISTEN: { path: 'cache.listen' },
  NARSWARM_PEER_LISTEN: { path: 'peer.listen' },
  NARSWARM_LOG_LEVEL: { path: 'log.level' },
  NARSWARM_LOG_FORMAT: { path: 'log.format' },
}

const SYSTEM_FILE = '/etc/narswarm/config.toml'

/** @throws ConfigError with every problem */
export function loadConfig(input: ConfigInput): Config {
  const { env, read } = input
  const origins = new Map<string, Origin>()
  const { name, text } = findFile(input)
  const tree = text === undefined ? {} : parseText(name, text)
  for (const path of leavesOf(tree)) origins.set(path, 'file')
  for (const [variable, { path, list }] of Object.entries(ENVIRONMENT)) {
    const value = env[variable]
    if (value === undefined) continue
    setPath(tree, path, list === true ? value.split(/\s+/).filter(Boolean) : value)
    origins.set(path, 'environment')
  }
  for (const path of leavesOf(input.flags ?? {})) {
    setPath(tree, path, getPath(input.flags ?? {}, path))
    origins.set(path, 'flag')
  }
  return complete(check(name, tree), origins, input, read)
}

function findFile({ file, env, read }: ConfigInput): { name: string; text: string | undefined } {
  const named = file ?? env['NARSWARM_CONFIG']
  if (named !== undefined) {
    const text = read(named)
    if (text === undefined) throw new ConfigError(named, ['expected a readable file, there is none'])
    return { name: named, text }
  }
  const home = env['HOME']
  const own = env['XDG_CONFIG_HOME'] ?? (home === undefined ? undefined : join(home, '.config'))
  const places = [SYSTEM_FILE, ...(own === undefined ? [] : [join(own, 'narswarm', 'config.toml')])]
  for (const place of places) {
    const text = read(place)
    if (text !== undefined) return { name: place, text }
  }
  return { name: '(none)', text: undefined }
}

function parseText(name: string, text: string): Record<string, unknown> {
  try {
    return parseToml(text)
  } catch (cause) {
    if (!(cause instanceof TomlError)) throw cause
    const [first = 'not TOML'] = cause.message.split('\n')
    throw new ConfigError(name, [`line ${cause.line}, column ${cause.column}: ${first}`], { cause })
  }
}

function check(name: string, tree: Record<string, unknown>): ConfigFile {
  const result = configSchema.safeParse(tree)
  if (result.success) return result.data
  const problems = result.error.issues.map((issue) => {
    const path = issue.path.map(String).join('.')
    return path === '' ? issue.message : `${path}: ${issue.message}`
  })
  throw new ConfigError(name, problems, { cause: result.error })
}

function complete(
  file: ConfigFile,
  origins: Map<string, Origin>,
  { env, isRoot }: ConfigInput,
  read: ReadText,
): Config {
  const warnings: string[] = []
  const profile = file.profile ?? 'private'
  const sharing = profile !== 'private'
  const listen = file.cache?.listen ?? parseHostPort('127.0.0.1:6277')
  const nixConf = readNixConf(read, env)

  const upstreams =
    file.upstreams ?? fromNixConf(nixConf.substituters, formatHostPort(listen), origins, warnings)
  const trusted = file.trust?.keys ?? keysOfNixConf(nixConf.trustedPublicKeys, origins, warnings)
  const peer = file.peer?.listen ?? (sharing ? parseHostPort('0.0.0.0:6278') : undefined)
  if (peer !== undefined && !sharing) {
    warnings.push('peer.listen is set, but profile private shares nothing: there will be no peer listener')
  }
  const swarmListen = file.swarm?.listen ?? (sharing ? ['/ip4/0.0.0.0/tcp/6279'] : [])
  if (swarmListen.length > 0 && !sharing) {
    warnings.push('swarm.listen is set, but profile private shares nothing: nobody will be answered there')
  }
  if (profile === 'pool' && file.share?.keys === undefined) {
    warnings.push('profile pool without share.keys shares only what cache.nixos.org-1 signed')
  }
  return {
    profile,
    storeDir: file.store_dir ?? '/nix/store',
    storeRoot: file.store_root,
    stateDir: file.state_dir ?? defaultStateDir(env, isRoot),
    upstreams,
    cache: {
      listen,
      priority: file.cache?.priority ?? 30,
      allowedHosts: file.cache?.allowed_hosts ?? [],
    },
    peer: sharing && peer !== undefined ? { listen: peer } : undefined,
    swarm: { listen: sharing ? swarmListen : [] },
    trust: { keys: trusted, threshold: file.trust?.threshold ?? 1 },
    share: { keys: file.share?.keys ?? [parsePublicKey(NIXOS_KEY)] },
    peers: { urls: file.peers?.urls ?? [], addrs: file.peers?.addrs ?? [] },
    feeds: (file.feed ?? []).map(({ name, root_key: rootKey, sources }) => ({ name, rootKey, sources })),
    log: { level: file.log?.level ?? 'info', format: file.log?.format ?? 'text' },
    origins,
    warnings,
  }
}

/** Those that we can ask ourselves, without us. */
function fromNixConf(
  substituters: readonly string[] | undefined,
  own: string,
  origins: Map<string, Origin>,
  warnings: string[],
): URL[] {
  const urls: URL[] = []
  let ourselves = false
  for (const text of substituters ?? [NIXOS_CACHE]) {
    const url = URL.parse(text)
    if (url !== null && [own, own.replace('127.0.0.1', 'localhost')].includes(url.host)) {
      ourselves = true
      continue
    }
    if (url === null || !['http:', 'https:', 'file:'].includes(url.protocol)) {
      warnings.push(
        `substituter ${text} of nix.conf is left to Nix: only http, https and file can be asked from here`,
      )
      continue
    }
    // ?priority= and ?trusted= are for Nix.
    url.search = ''
    urls.push(url)
  }
  // Who names us alone still wants packages from somewhere; who names nobody wants none.
  if (urls.length === 0 && ourselves) return [new URL(NIXOS_CACHE)]
  if (substituters !== undefined) origins.set('upstreams', 'nix.conf')
  return urls
}

function keysOfNixConf(
  texts: readonly string[] | undefined,
  origins: Map<string, Origin>,
  warnings: string[],
): PublicKey[] {
  const keys: PublicKey[] = []
  for (const text of texts ?? [NIXOS_KEY]) {
    try {
      keys.push(parsePublicKey(text))
    } catch (error) {
      warnings.push(
        `a trusted-public-key of nix.conf is left out: ${error instanceof Error ? error.message : String(error)}`,
      )
    }
  }
  if (texts !== undefined) origins.set('trust.keys', 'nix.conf')
  return keys
}

function defaultStateDir(env: ConfigInput['env'], isRoot: boolean): string {
  const given = env['STATE_DIRECTORY']
  if (given !== undefined && given !== '') return given.split(':')[0] ?? given
  if (isRoot) return '/var/lib/narswarm'
  const state = env['XDG_STATE_HOME'] ?? join(env['HOME'] ?? '/', '.local', 'state')
  return join(state, 'narswarm')
}

/** Dotted names of all values that are no tables; a list is one value. */
function leavesOf(tree: Readonly<Record<string, unknown>>, prefix = ''): string[] {
  return Object.entries(tree).flatMap(([key, value]) =>
    isTable(value) ? leavesOf(value, `${prefix}${key}.`) : [`${prefix}${key}`],
  )
}

function getPath(tree: Readonly<Record<string, unknown>>, path: string): unknown {
  return path.split('.').reduce<unknown>((at, key) => (isTable(at) ? at[key] : undefined), tree)
}

function setPath(tree: Record<string, unknown>, path: string, value: unknown): void {
  const [first = '', ...rest] = path.split('.')
  if (rest.length === 0) {
    tree[first] = value
    return
  }
  const inner = isTable(tree[first]) ? tree[first] : {}
  tree[first] = inner
  setPath(inner, rest.join('.'), value)
}

function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date)
}
