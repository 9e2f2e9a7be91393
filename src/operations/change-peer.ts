import { messageOf } from '../log.ts'
import { parseNeighbour } from '../swarm/neighbour-id.ts'
import type { NamedNeighbour } from '../swarm/neighbour-id.ts'
import type { NeighbourTable } from '../swarm/neighbour-table.ts'
import { RequestError } from './operations.ts'
import type { PeerChange } from './peers.ts'

/** @throws RequestError */
export function changePeer(table: NeighbourTable, { action, peer, reason = '' }: PeerChange): { id: string } {
  const named = parsed(peer)
  const { id } = named
  switch (action) {
    case 'add':
      if (named.kind === 'narswarm' && named.addr === undefined) {
        throw new RequestError('expected a URL or a multiaddr: where is it?')
      }
      refuseBanned(table, id)
      table.add(named)
      break
    case 'remove': {
      refuseBanned(table, id)
      const outcome = table.remove(named)
      if (outcome === 'unknown') throw new RequestError(`no neighbour ${id}`)
      if (outcome === 'configured')
        throw new RequestError(`${id} is named by the configuration: take it out there, or ban it`)
      break
    }
    case 'ban':
      table.ban(named, reason)
      break
    case 'unban':
      if (!table.unban(named)) throw new RequestError(`${id} is neither banned nor out`)
      break
    default:
      action satisfies never
  }
  return { id }
}

/** Else either would take the ban away as well, or be of no effect. */
function refuseBanned(table: NeighbourTable, id: string): void {
  if (table.list().some((one) => one.id === id && one.state === 'banned')) {
    throw new RequestError(`${id} is banned: unban it first`)
  }
}

function parsed(text: string): NamedNeighbour {
  try {
    return parseNeighbour(text)
  } catch (cause) {
    throw new RequestError(messageOf(cause), { cause })
  }
}
