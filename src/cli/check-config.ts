import type { Command } from 'commander'
import type { Config } from '../config/config.ts'
import { formatHostPort } from '../config/address.ts'
import { ConfigError } from '../config/errors.ts'
import { formatPublicKey } from '../nix/key.ts'
import { addJsonOption } from './context.ts'
import type { CliContext, JsonOption } from './context.ts'
import { count } from './units.ts'

type Value = string | number | boolean | readonly string[] | undefined

export function addCheckConfig(program: Command, context: CliContext): void {
  addJsonOption(program.command('check-config'))
    .description('check a configuration, offline, and print what it comes to')
    .argument('[file]', 'configuration file (default: $NARSWARM_CONFIG, /etc/narswarm/config.toml, XDG)')
    .addHelpText(
      'after',
      `
Prints each value and where it came from: flag, environment (NARSWARM_*), file, nix.conf or
default, in this order. Exits with 2 and every problem when the configuration cannot be used.

Examples:
  narswarm check-config ./config.toml
  narswarm check-config --json`,
    )
    .action((file: string | undefined, options: JsonOption) => checkConfig(context, file, options))
}

function checkConfig(context: CliContext, file: string | undefined, { json }: JsonOption): void {
  const { output } = context
  let config: Config
  try {
    config = context.loadConfig(file === undefined ? {} : { config: file })
  } catch (error) {
    if (json === true && error instanceof ConfigError) {
      output.json({ version: 1, valid: false, problems: error.problems })
    }
    throw error
  }
  const settings = settingsOf(config).map(([key, value]) => ({
    key,
    value: value ?? null,
    origin: config.origins.get(key) ?? 'default',
  }))
  if (json === true) {
    output.json({ version: 1, valid: true, settings, warnings: config.warnings })
    return
  }
  // A long list has a line for each of its items.
  output.table(
    settings.flatMap(({ key, value, origin }) => {
      const [first = 'none', ...rest] = typeof value === 'object' ? (value ?? []) : [String(value)]
      return [[key, first, origin], ...rest.map((item) => ['', item, ''])]
    }),
    [{ title: 'KEY' }, { title: 'VALUE' }, { title: 'FROM' }],
  )
  for (const warning of config.warnings) output.complain(`warning: ${warning}`)
  if (config.warnings.length > 0) output.note(`usable, with ${count(config.warnings.length, 'warning')}`)
}

/** Written out, in the order of the schema: a secret that the configuration may hold one day is not printed by accident. */
function settingsOf(config: Config): [string, Value][] {
  return [
    ['profile', config.profile],
    ['store_dir', config.storeDir],
    ['store_root', config.storeRoot],
    ['state_dir', config.stateDir],
    ['upstreams', config.upstreams.map(String)],
    ['cache.listen', formatHostPort(config.cache.listen)],
    ['cache.priority', config.cache.priority],
    ['cache.allowed_hosts', config.cache.allowedHosts],
    ['peer.listen', config.peer === undefined ? undefined : formatHostPort(config.peer.listen)],
    ['swarm.listen', config.swarm.listen],
    ['trust.keys', config.trust.keys.map(formatPublicKey)],
    ['trust.threshold', config.trust.threshold],
    ['share.keys', config.share.keys.map(formatPublicKey)],
    ['share.deny', config.share.deny.map(({ text }) => text)],
    ['share.upload', config.share.upload ?? 'as fast as it goes'],
    ['lan.ask', config.lan.ask],
    ['lan.discover', String(config.lan.discover)],
    ['lan.interfaces', config.lan.interfaces ?? 'all but loopback'],
    ['peers.urls', config.peers.urls.map(String)],
    ['peers.addrs', config.peers.addrs],
    ['feed', config.feeds.map((feed) => `${feed.name} from ${feed.sources.map(String).join(', ')}`)],
    ['spool.max_size', config.spool.maxBytes ?? '20 GiB, at most a tenth of the disk'],
    ['spool.min_free', config.spool.minFreeBytes ?? '4 GiB, at most a twentieth of the disk'],
    ['upgrade.rewrite', config.upgrade.rewrite],
    ['upgrade.relay', config.upgrade.relay !== undefined],
    ['upgrade.relay_max_bytes_per_day', config.upgrade.relay?.maxBytesPerDay],
    ['audit.max_bytes_per_day', config.audit.maxBytesPerDay],
    ['log.level', config.log.level],
    ['log.format', config.log.format],
  ]
}
