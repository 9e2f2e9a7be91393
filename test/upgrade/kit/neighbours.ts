import { createLine } from '../../../bench/kit/line.ts'
import { listenOnLoopback } from '../../e2e/kit/bad-server.ts'
import { openConsumer } from '../../e2e/kit/consumer.ts'
import type { Consumer } from '../../e2e/kit/consumer.ts'
import { startCountingProxy } from '../../e2e/kit/counting-proxy.ts'
import type { CountingProxy } from '../../e2e/kit/counting-proxy.ts'
import { addressesOf, sharing, startPublisher } from '../../e2e/kit/narswarm.ts'
import type { NixMachine } from '../../e2e/kit/nix-machine.ts'
import type { Stage } from '../../e2e/kit/stage.ts'
import { untilIndexed } from '../../lan/kit/machine.ts'
import { openMachineWith } from './generations.ts'
import type { Generations } from './generations.ts'

/** 100 Mbit/s: on loopback nothing would be coded, as it is not worth its time there. */
const LINK_BYTES_PER_SECOND = 12_500_000
const LINK_BURST_MS = 2

/** A machine with one of the generations, and at the other end of a link a neighbour that has everything. */
export async function openNeighbours(
  stage: Stage,
  everything: NixMachine,
  generations: Generations,
  generation: string,
): Promise<{ consumer: Consumer; link: CountingProxy }> {
  const { publicKey } = generations
  const giver = await startPublisher(stage, 'giver', { store_root: everything.root }, [publicKey])
  const { peerUrl } = await addressesOf(giver)
  const line = createLine(LINK_BYTES_PER_SECOND, LINK_BURST_MS)
  const link = await startCountingProxy(stage, peerUrl, { listen: listenOnLoopback, line })

  const nix = await openMachineWith(stage, 'machine', generations, [generation])
  const settings = { ...sharing([publicKey]), peers: { urls: [link.url] } }
  const consumer = await openConsumer(stage, settings, [], nix)
  await untilIndexed({ narswarm: giver })
  await untilIndexed(consumer)
  return { consumer, link }
}
