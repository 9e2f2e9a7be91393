import type { Command } from 'commander'
import type { PeerReport } from '../operations/peers.ts'
import { withOperations } from './connect.ts'
import { addConfigOption, addJsonOption } from './context.ts'
import type { CliContext, ConfigOption, JsonOption } from './context.ts'

export function addPeerList(peer: Command, context: CliContext): void {
  addJsonOption(addConfigOption(peer.command('list')))
    .description('list who is near, how each behaved, and who is out')
    .addHelpText(
      'after',
      `
Neighbours are found by mDNS in profile lan, or named: peers.urls, peers.addrs, peer add. None is trusted.
ok: it is asked. resting: it does not answer, and is tried again. out: it gave wrong bytes.
a relay: what it has not it fetches, so that differences from what is here can come from it.`,
    )
    .action((options: ConfigOption & JsonOption) => peerList(context, options))
}

async function peerList(context: CliContext, options: ConfigOption & JsonOption): Promise<void> {
  const { output, signal } = context
  await withOperations(context, options, async (operations) => {
    const report = await operations.peers({ signal })
    if (options.json === true) {
      output.json(report)
      return
    }
    if (report.peers.length === 0) output.note('no neighbour is known')
    output.table(
      report.peers.map((one) => [
        one.id,
        one.url ?? one.addr ?? '-',
        one.from,
        one.latency_ms === undefined ? '-' : `${one.latency_ms} ms`,
        one.seen ?? 'never',
        stateOf(one),
      ]),
      [
        { title: 'NEIGHBOUR' },
        { title: 'WHERE' },
        { title: 'FROM' },
        { title: 'ANSWERS IN', align: 'right' },
        { title: 'SEEN' },
        { title: 'STATE' },
      ],
    )
  })
}

function stateOf({ state, url, until, reason = '', relay }: PeerReport): string {
  const why = reason === '' ? '' : `: ${reason}`
  switch (state) {
    case 'ok':
      return relay === true ? 'ok, a relay' : 'ok'
    case 'unknown':
      return url === undefined ? 'not reached yet' : 'not asked yet'
    case 'resting':
      return `resting until ${until ?? 'it answers'}${why}`
    case 'out':
      return `out until ${until ?? 'it is unbanned'}${why}`
    case 'banned':
      return `banned${why}`
    default:
      return state satisfies never
  }
}
