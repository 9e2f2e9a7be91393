import type { BlockSource } from '../source.ts'
import { COST } from '../source.ts'
import type { SwarmNode } from './node.ts'
import { peerIdIn } from './peer-address.ts'

/**
 * A peer to ask over bitswap by a node that is started when the first block is wanted.
 *
 * @param address multiaddr that ends in `/p2p/<peer id>`
 * @throws RangeError when it does not
 */
export function lazyBitswap(address: string, start: () => Promise<SwarmNode>): BlockSource {
  let source: Promise<BlockSource> | undefined
  return {
    id: `bitswap:${peerIdIn(address)}`,
    cost: COST.swarm,
    async fetch(block, options) {
      source ??= start().then((node) => node.bitswapSource(address))
      // A start that failed is tried again at the next block.
      source.catch(() => (source = undefined))
      return (await source).fetch(block, options)
    },
  }
}
