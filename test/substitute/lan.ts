/** Narswarms near each other: whole engines, each behind its peer listener on loopback. */
import type { TestContext } from 'node:test'
import { createPeerApp } from '../../src/http/peer-app.ts'
import { trustedKeys } from '../../src/nix/key.ts'
import { formatNarInfo } from '../../src/nix/narinfo.ts'
import { createHoldings } from '../../src/publish/holdings.ts'
import { createSharePolicy } from '../../src/publish/share-policy.ts'
import { createNarsUnderWay } from '../../src/publish/under-way.ts'
import type { NarInfoSource } from '../../src/source.ts'
import { createAlongFinder } from '../../src/swarm/along-finder.ts'
import type { Neighbour, Neighbours } from '../../src/swarm/neighbours.ts'
import { CACHE_CONFIG, openGate, serve } from '../http/kit.ts'
import { recordingLog } from '../kit/log.ts'
import { STORE_DIR } from '../nix/genuine.ts'
import { neighbour, neighboursOf } from '../swarm/near.ts'
import { engine, signer } from './kit.ts'
import type { Engine } from './kit.ts'

export interface LanNode extends Engine {
  readonly name: string
  readonly url: string
  readonly near: Neighbours
  /** Its peer listener goes away, with whatever is under way there. */
  die(): Promise<void>
}

const share = createSharePolicy({ keys: trustedKeys([signer.publicKey]), deny: [], storeDir: STORE_DIR })

/**
 * Each knows all others, and `strangers`.
 *
 * @param sources of narinfos and bytes, for each of them
 */
export async function lan<Name extends string>(
  t: TestContext,
  names: readonly Name[],
  sources: (name: Name) => NarInfoSource[],
  { clock = Date.now, strangers = [] }: { clock?: () => number; strangers?: readonly Neighbour[] } = {},
): Promise<Record<Name, LanNode>> {
  const found: Neighbour[] = [...strangers]
  const nodes: Partial<Record<Name, LanNode>> = {}
  await Promise.all(
    names.map(async (name) => {
      const others = neighboursOf()
      const near: Neighbours = {
        ...others,
        current: () => found.filter(({ id }) => id !== `narswarm:${name}` && !failed.has(id)),
        failed: (id) => void failed.add(id),
      }
      const failed = new Set<string>()
      const node = await engine(t, {
        sources: sources(name),
        shareable: true,
        clock,
        along(scores) {
          const finder = createAlongFinder({
            neighbours: near,
            self: () => `narswarm:${name}`,
            usable: (id) => scores.usable(id),
            clock,
            log: recordingLog(),
          })
          t.after(() => finder.close())
          return finder
        },
      })
      const { table, index, blocks, transfers } = node
      const { listener, port } = await serve(
        t,
        createPeerApp(
          {
            ...openGate(),
            holdings: createHoldings({ policy: share, table, index, blocks }),
            underWay: createNarsUnderWay({
              underWay: transfers.underWay,
              shareable: (info) => share.allows(info),
              clock,
              self: () => `narswarm:${name}`,
            }),
            blocks,
            feeds: { read: () => Promise.resolve(undefined) },
            formatAnswer: (info) => formatNarInfo(info, STORE_DIR),
            log: recordingLog(),
          },
          CACHE_CONFIG,
        ),
      )
      const url = `http://127.0.0.1:${port}/`
      found.push(neighbour(name, url))
      nodes[name] = { ...node, name, url, near, die: () => listener.close(0) }
    }),
  )
  return nodes as Record<Name, LanNode>
}
