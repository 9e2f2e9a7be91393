import type { Command } from 'commander'
import type { PeerChange } from '../operations/peers.ts'
import { withOperations } from './connect.ts'
import { addConfigOption } from './context.ts'
import type { CliContext, ConfigOption } from './context.ts'

const PEER = "its URL, multiaddr or peer id, or its id as 'peer list' shows it"

export function addPeerAdd(peer: Command, context: CliContext): void {
  addConfigOption(peer.command('add'))
    .argument('<where>', 'URL of a binary cache or of a peer listener, or multiaddr with /p2p/<peer id>')
    .description('ask this one too, from now on')
    .addHelpText(
      'after',
      `
Any binary cache will do; nothing of what it gives is trusted. Kept over restarts.

Examples:
  narswarm peer add http://10.0.0.2:6278
  narswarm peer add /ip4/10.0.0.2/tcp/6279/p2p/12D3KooW...`,
    )
    .action((where: string, options: ConfigOption) =>
      change(context, options, { action: 'add', peer: where }, 'added'),
    )
}

export function addPeerRemove(peer: Command, context: CliContext): void {
  addConfigOption(peer.command('remove'))
    .argument('<peer>', PEER)
    .description('undo peer add, or forget one that was found')
    .action((name: string, options: ConfigOption) =>
      change(context, options, { action: 'remove', peer: name }, 'removed'),
    )
}

export function addPeerBan(peer: Command, context: CliContext): void {
  addConfigOption(peer.command('ban'))
    .argument('<peer>', PEER)
    .option('--reason <text>', "what 'peer list' says")
    .description('never ask this one; a URL bans whoever is there')
    .action((name: string, { reason, ...options }: ConfigOption & { readonly reason?: string }) => {
      const ban = { action: 'ban', peer: name, ...(reason === undefined ? {} : { reason }) } as const
      return change(context, options, ban, 'banned')
    })
}

export function addPeerUnban(peer: Command, context: CliContext): void {
  addConfigOption(peer.command('unban'))
    .argument('<peer>', PEER)
    .description('take back a ban, or forgive one that gave wrong bytes')
    .action((name: string, options: ConfigOption) =>
      change(context, options, { action: 'unban', peer: name }, 'no longer banned:'),
    )
}

async function change(
  context: CliContext,
  options: ConfigOption,
  request: PeerChange,
  done: string,
): Promise<void> {
  const { output, signal } = context
  await withOperations(context, options, async (operations) => {
    const { id } = await operations.changePeer(request, { signal })
    output.note(`${done} ${id}`)
  })
}
