/** From flags, environment, file, nix.conf and defaults to one `Config`. Reads files only through what it is given. */
import { join } from 'node:path'
import { parse as parseToml, TomlError } from 'smol-toml'
import type { z } from 'zod'
import { parsePublicKey, trustedKeys } from '../nix/key.ts'
import { isOurs, parseHostPort } from './address.ts'
import { shares } from './config.ts'
import type { Config, Origin } from './config.ts'
import { ConfigError } from './errors.ts'
import { keysOf, upstreamsOf } from './from-nix-conf.ts'
import { readNixConf } from './nix-conf.ts'
import type { ReadText } from './nix-conf.ts'
import { configSchema, INDEX_RATE, NIXOS_CACHE, NIXOS_KEY, RELAY_MAX_BYTES_PER_DAY } from './schema.ts'
import type { ConfigFile } from './schema.ts'
import { lineOf, linesOf } from './toml-lines.ts'

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
  NARSWARM_SHARE_UPLOAD: { path: 'share.upload' },
  NARSWARM_SPOOL_MAX_SIZE: { path: 'spool.max_size' },
  NARSWARM_SPOOL_MIN_FREE: { path: 'spool.min_free' },
  NARSWARM_AUDIT_MAX_BYTES_PER_DAY: { path: 'audit.max_bytes_per_day' },
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
  /** Of values that are not from the file: where to look for them. */
  const places = new Map<string, string>()
  for (const [variable, { path, list }] of Object.entries(ENVIRONMENT)) {
    const value = env[variable]
    // As good as unset: units and shells often leave it so.
    if (value === undefined || value === '') continue
    setPath(tree, path, list === true ? value.split(/\s+/).filter(Boolean) : value)
    origins.set(path, 'environment')
    places.set(path, variable)
  }
  for (const path of leavesOf(input.flags ?? {})) {
    setPath(tree, path, getPath(input.flags ?? {}, path))
    origins.set(path, 'flag')
    places.set(path, 'command line')
  }
  const lines = linesOf(text ?? '')
  const placeOf = (path: readonly string[]): string => {
    const place = places.get(path.slice(0, 2).join('.')) ?? places.get(path[0] ?? '')
    const line = lineOf(lines, path)
    return place === undefined ? (line === undefined ? '' : ` (line ${line})`) : ` (${place})`
  }
  const file = check(name, tree, placeOf)
  const config = complete(file, origins, input, read)
  const problems = contradictions(config, origins).map(
    ({ path, reason }) => `${path}: ${reason}${placeOf(path.split('.'))}`,
  )
  if (problems.length > 0) throw new ConfigError(name, problems)
  return config
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

function check(
  name: string,
  tree: Record<string, unknown>,
  placeOf: (path: readonly string[]) => string,
): ConfigFile {
  const result = configSchema.safeParse(tree)
  if (result.success) return result.data
  const problems = result.error.issues.flatMap((issue) => {
    const path = issue.path.map(String)
    // One problem a key, with the key's own line.
    if (issue.code === 'unrecognized_keys') {
      return issue.keys.map((key) => `${[...path, key].join('.')}: unknown key${placeOf([...path, key])}`)
    }
    return [`${path.join('.')}: ${messageOf(issue, getPath(tree, path.join('.')))}${placeOf(path)}`]
  })
  throw new ConfigError(name, problems, { cause: result.error })
}

/** zod's own messages do not all say what came. Messages of ours do, where it may be said: it may be a secret. */
function messageOf(issue: z.core.$ZodIssue, value: unknown): string {
  const message = issue.message.replace(/^Invalid (?:input|option): /, '').replace(', received ', ', got ')
  switch (issue.code) {
    case 'invalid_type':
      return value === undefined ? 'expected a value, there is none' : message
    case 'invalid_value':
    case 'too_small':
    case 'too_big':
      return `${message}, got ${JSON.stringify(value)?.slice(0, 80)}`
    default:
      return message
  }
}

/** What is well-formed, value by value, and cannot work together. */
function contradictions(
  config: Config,
  origins: ReadonlyMap<string, Origin>,
): { path: string; reason: string }[] {
  const problems: { path: string; reason: string }[] = []
  for (const [index, url] of config.upstreams.entries()) {
    if (!isOurs(url, config.cache.listen)) continue
    problems.push({
      path: `upstreams.${index}`,
      reason: `${url.href} is our own cache.listen: we would ask ourselves`,
    })
  }
  for (const path of ['trust', 'share'] as const) {
    try {
      trustedKeys(config[path].keys)
    } catch (error) {
      problems.push({ path: `${path}.keys`, reason: error instanceof Error ? error.message : String(error) })
    }
  }
  const names = new Set(config.trust.keys.map((key) => key.name))
  if (names.size < config.trust.threshold && origins.has('trust.threshold')) {
    problems.push({
      path: 'trust.threshold',
      reason: `expected at most as many as there are trusted keys (${names.size}), got ${config.trust.threshold}`,
    })
  }
  for (const [index, { name }] of config.feeds.entries()) {
    if (config.feeds.findIndex((feed) => feed.name === name) === index) continue
    problems.push({ path: `feed.${index}.name`, reason: `the feed ${JSON.stringify(name)} is there twice` })
  }
  return problems
}

function complete(
  file: ConfigFile,
  origins: Map<string, Origin>,
  { env, isRoot }: ConfigInput,
  read: ReadText,
): Config {
  const warnings: string[] = []
  const profile = file.profile ?? 'private'
  const share = {
    keys: file.share?.keys ?? [parsePublicKey(NIXOS_KEY)],
    deny: file.share?.deny ?? [],
    upload: file.share?.upload,
    indexRate: file.share?.index_rate ?? INDEX_RATE,
  }
  const sharing = shares({ profile, share })
  const nothing = profile === 'private' ? 'profile private shares nothing' : 'share.upload = 0 shares nothing'
  const listen = file.cache?.listen ?? parseHostPort('127.0.0.1:6277')
  const nixConf = readNixConf(read, env)

  const warn = (text: string): void => void warnings.push(text)
  const { substituters, trustedPublicKeys } = nixConf
  if (file.upstreams === undefined && substituters !== undefined) origins.set('upstreams', 'nix.conf')
  if (file.trust?.keys === undefined && trustedPublicKeys !== undefined) origins.set('trust.keys', 'nix.conf')
  const upstreams = file.upstreams ?? upstreamsOf(substituters ?? [NIXOS_CACHE], listen, warn)
  const trusted = file.trust?.keys ?? keysOf(trustedPublicKeys ?? [NIXOS_KEY], warn)
  const peer = file.peer?.listen ?? (sharing ? parseHostPort('[::]:6278') : undefined)
  if (peer !== undefined && !sharing) {
    warnings.push(`peer.listen is set, but ${nothing}: there will be no peer listener`)
  }
  const swarmListen = file.swarm?.listen ?? (sharing ? ['/ip4/0.0.0.0/tcp/6279', '/ip6/::/tcp/6279'] : [])
  if (swarmListen.length > 0 && !sharing) {
    warnings.push(`swarm.listen is set, but ${nothing}: nobody will be answered there`)
  }
  if ((file.lan?.discover ?? file.lan?.interfaces) !== undefined && profile !== 'lan') {
    warnings.push(`lan.discover and lan.interfaces are for profile lan; ${profile} looks for no neighbours`)
  }
  if (file.upgrade?.relay === true && !sharing) {
    warnings.push(`upgrade.relay is set, but ${nothing}: nobody can ask for it`)
  }
  if (file.upgrade?.relay !== true && file.upgrade?.relay_max_bytes_per_day !== undefined) {
    warnings.push('upgrade.relay_max_bytes_per_day is set without upgrade.relay')
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
    share,
    lan: {
      discover: profile === 'lan' && file.lan?.discover !== false,
      interfaces: file.lan?.interfaces,
      ask: file.lan?.ask ?? 'all',
    },
    peers: { urls: file.peers?.urls ?? [], addrs: file.peers?.addrs ?? [] },
    feeds: (file.feed ?? []).map(({ name, root_key: rootKey, sources }) => ({ name, rootKey, sources })),
    spool: { maxBytes: file.spool?.max_size, minFreeBytes: file.spool?.min_free },
    upgrade: {
      rewrite: file.upgrade?.rewrite ?? true,
      relay:
        file.upgrade?.relay === true && sharing
          ? { maxBytesPerDay: file.upgrade.relay_max_bytes_per_day ?? RELAY_MAX_BYTES_PER_DAY }
          : undefined,
    },
    audit: { maxBytesPerDay: file.audit?.max_bytes_per_day ?? 0 },
    log: { level: file.log?.level ?? 'info', format: file.log?.format ?? 'text' },
    origins,
    warnings,
  }
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
  return path.split('.').reduce<unknown>((at, key) => {
    return Array.isArray(at) ? (at[Number(key)] as unknown) : isTable(at) ? at[key] : undefined
  }, tree)
}

function setPath(tree: Record<string, unknown>, path: string, value: unknown): void {
  const [first = '', ...rest] = path.split('.')
  if (rest.length === 0) {
    tree[first] = value
    return
  }
  const inner = (tree[first] ??= {})
  // A file that says `cache = 1` stays wrong, whatever else sets cache.listen.
  if (isTable(inner)) setPath(inner, rest.join('.'), value)
}

function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date)
}
