import type { Command } from 'commander'
import type { StatusDocument } from '../operations/status.ts'
import { createAdminClient } from './admin-client.ts'
import { adminSocketPath } from './connect.ts'
import { addConfigOption, addJsonOption } from './context.ts'
import type { CliContext, ConfigOption, JsonOption } from './context.ts'
import { printFeeds } from './feed-status.ts'
import type { Output } from './output.ts'
import { count, formatBytes } from './units.ts'

export function addStatus(program: Command, context: CliContext): void {
  addJsonOption(addConfigOption(program.command('status')))
    .description('show what the running narswarm does, and with whom')
    .addHelpText('after', '\nExits with 4 when no narswarm runs here.')
    .action((options: ConfigOption & JsonOption) => status(context, options))
}

async function status(context: CliContext, options: ConfigOption & JsonOption): Promise<void> {
  const { output, signal } = context
  const config = context.loadConfig(options)
  const document = await createAdminClient(adminSocketPath(config)).status({ signal })
  if (options.json === true) output.json(document)
  else printStatus(output, document)
}

function printStatus(output: Output, it: StatusDocument): void {
  const { spool, transfers, peer, swarm } = it
  const facts: (readonly [string, string])[] = [
    ['narswarm', `${it.narswarm}, profile ${it.profile}, since ${it.started}`],
    ['cache', `${it.cache.url} (priority ${it.cache.priority})`],
    ...(peer === undefined ? [] : [['peers, HTTP', peer.url] as const]),
    ...(swarm?.addrs.map((addr) => ['peers, bitswap', addr] as const) ?? []),
    ['trusts', listed(it.trusted_keys)],
    ['shares', it.share_keys.length === 0 ? 'nothing' : `what is signed by ${listed(it.share_keys)}`],
    ['upstreams', listed(it.upstreams)],
    ['asks peers', listed(it.peers)],
    ['spool', `${count(spool.nars, 'NAR')}, ${formatBytes(spool.bytes)}`],
    ['transfers', String(transfers.running)],
  ]
  const width = Math.max(...facts.map(([name]) => name.length))
  for (const [name, value] of facts) output.result(`${name.padEnd(width)}  ${value}`)

  if (it.sources.length > 0) output.result('')
  output.table(
    it.sources.map((source) => [
      source.id,
      formatBytes(source.bytes),
      source.average_ms === undefined ? '-' : `${Math.round(source.average_ms)} ms`,
      String(source.faults),
      String(source.lies),
      source.out ? 'left alone for now' : 'in use',
    ]),
    [
      { title: 'SOURCE' },
      { title: 'GAVE', align: 'right' },
      { title: 'A BLOCK', align: 'right' },
      { title: 'FAULTS', align: 'right' },
      { title: 'LIES', align: 'right' },
      { title: 'STATE' },
    ],
  )
  if (it.feeds.published.length + it.feeds.followed.length > 0) output.result('')
  printFeeds(output, it.feeds)
}

function listed(items: readonly string[]): string {
  return items.length === 0 ? 'none' : items.join(', ')
}
