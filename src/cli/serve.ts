import type { Command } from 'commander'
import { Option } from 'commander'
import type { Config } from '../config/config.ts'
import { PROFILES } from '../config/schema.ts'
import { SHUTDOWN_GRACE_MS } from '../limits.ts'
import { addConfigOption } from './context.ts'
import type { CliContext, ConfigOption } from './context.ts'
import type { Serving } from './node.ts'

interface ServeOptions extends ConfigOption {
  readonly profile?: string
  readonly listen?: string
  readonly logLevel?: string
  readonly logFormat?: string
}

export function addServe(program: Command, context: CliContext): void {
  addConfigOption(program.command('serve'))
    .description('run narswarm: a binary cache for the Nix of this machine')
    .addOption(new Option('--profile <name>', 'what is shared, and with whom').choices(PROFILES))
    .option('--listen <address>', 'where Nix finds us (default: 127.0.0.1:6277)')
    .addOption(new Option('--log-level <level>', 'what is told').choices(['debug', 'info', 'warn', 'error']))
    .addOption(new Option('--log-format <format>', 'how it is told').choices(['text', 'json']))
    .addHelpText(
      'after',
      `
Needs no configuration: it then shares nothing, takes trusted keys and substituters from
nix.conf, and tells the line to put there. SIGTERM and Ctrl-C let responses under way end
for ${SHUTDOWN_GRACE_MS / 1000} s; a second Ctrl-C does not wait.

Examples:
  narswarm serve
  narswarm serve --config /etc/narswarm/config.toml`,
    )
    .action((options: ServeOptions) => serve(context, options))
}

async function serve(context: CliContext, options: ServeOptions): Promise<void> {
  const { deps, output, signal } = context
  const { profile, listen, logLevel, logFormat } = options
  const config = context.loadConfig(options, {
    ...(profile === undefined ? {} : { profile }),
    ...(listen === undefined ? {} : { cache: { listen } }),
    log: {
      ...(logLevel === undefined ? {} : { level: logLevel }),
      ...(logFormat === undefined ? {} : { format: logFormat }),
    },
  })
  const node = await deps.openNode(config, { log: deps.createLog(config) })
  try {
    signal.throwIfAborted()
    for (const line of introduction(await node.serve(), config)) output.result(line)
    await aborted(signal)
    output.note('stopping: responses under way may end (again Ctrl-C: at once)')
  } finally {
    await node.close(SHUTDOWN_GRACE_MS)
  }
}

function introduction({ cacheUrl, peerUrl, swarm }: Serving, config: Config): string[] {
  return [
    `narswarm serves ${cacheUrl} (profile ${config.profile})`,
    ...(peerUrl === undefined ? [] : [`peers over HTTP: ${peerUrl}`]),
    ...(swarm?.addrs.map((addr) => `peers over bitswap: ${addr}`) ?? []),
    '',
    'For nix.conf:',
    `extra-substituters = ${cacheUrl}`,
    ...keyAdvice(config),
  ]
}

/** Nix checks signatures itself, by keys of its own; narswarm's only decide what is asked for and answered. */
function keyAdvice({ origins, trust }: Config): string[] {
  const from = origins.get('trust.keys') ?? 'default'
  if (from === 'nix.conf' || from === 'default') {
    return ['No key is to be added: paths keep the signatures that Nix checks already.']
  }
  const names = trust.keys.map(({ name }) => name).join(', ')
  return [
    'narswarm has no key of its own to add: paths keep the signatures that Nix checks.',
    `Nix itself must trust those of trust.keys (${names}): see trusted-public-keys in nix.conf.`,
  ]
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}
