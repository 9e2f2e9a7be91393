/** Asks relays that the user named for a path that nobody near has: each in turn, until one has it or says no. */
import { setTimeout as sleep } from 'node:timers/promises'
import { Agent, request } from 'undici'
import type { CID } from 'multiformats/cid'
import { parseCid } from '../dag/cid.ts'
import {
  NARINFO_MAX_BYTES,
  RELAY_AGAIN_MS,
  RELAY_ANSWER_MS,
  RELAY_ANSWER_SLACK_MS,
  RELAY_CONNECTIONS_COUNT,
  RELAY_REST_MS,
  RELAYS_MAX_COUNT,
  UPSTREAM_CONNECT_DEADLINE_MS,
} from '../limits.ts'
import { messageOf } from '../log.ts'
import type { Log } from '../log.ts'
import type { SignedFields } from '../nix/fingerprint.ts'
import { parseNarInfo } from '../nix/narinfo.ts'
import { hashPartOf } from '../nix/store-path.ts'
import type { StorePath } from '../nix/store-path.ts'
import type { CallOptions, SourceId } from '../source.ts'
import { createFading } from '../spool/fading.ts'
import { sourcesOf } from './neighbour-id.ts'
import type { Neighbour, NeighbourId, Neighbours } from './neighbours.ts'
import { relayUrl } from './relay-wire.ts'
import { readSmallText } from './small-text.ts'

/** As any neighbour's: believed by nobody before it is proved. */
interface RelayedRoot {
  readonly root: CID
  readonly told: SourceId
}

export interface RelayFinder {
  /** Those that would be asked now. */
  relays(): readonly SourceId[]
  /**
   * Takes as long as the relay takes to fetch it: minutes, for a large one.
   *
   * @param older a path that is here
   * @returns undefined when no relay has it, or will
   * @throws the signal's reason alone
   */
  find(
    wanted: Pick<SignedFields, 'storePath' | 'narHash' | 'narSize'>,
    older: StorePath,
    options: CallOptions,
  ): Promise<RelayedRoot | undefined>
  /** Cuts what is under way. */
  close(): Promise<void>
}

export function createRelayFinder(
  deps: { readonly neighbours: Pick<Neighbours, 'current'>; readonly clock: () => number; readonly log: Log },
  { storeDir }: { storeDir: string },
): RelayFinder {
  const { neighbours, clock, log } = deps
  const dispatcher = new Agent({
    connections: RELAY_CONNECTIONS_COUNT,
    pipelining: 1,
    allowH2: false,
    connect: { timeout: UPSTREAM_CONNECT_DEADLINE_MS },
  })
  /** Did not answer. It costs no NAR anything, and each of them a connection. */
  const resting = createFading<NeighbourId, true>({ max: RELAYS_MAX_COUNT, maxAgeMs: RELAY_REST_MS, clock })

  const current = (): readonly Neighbour[] =>
    neighbours
      .current()
      .filter(({ id, isRelay }) => isRelay === true && !resting.has(id))
      .slice(0, RELAYS_MAX_COUNT)

  /** @returns undefined for a no */
  async function ask(
    relay: Neighbour,
    wanted: Parameters<RelayFinder['find']>[0],
    older: StorePath,
    { signal }: CallOptions,
  ): Promise<RelayedRoot | 'later' | undefined> {
    const url = relayUrl(relay.url, hashPartOf(wanted.storePath), hashPartOf(older))
    const deadline = AbortSignal.timeout(RELAY_ANSWER_MS + RELAY_ANSWER_SLACK_MS)
    const { statusCode, body } = await request(url, {
      dispatcher,
      signal: AbortSignal.any([signal, deadline]),
      headers: { 'accept-encoding': 'identity', 'user-agent': 'narswarm' },
    })
    const text = await readSmallText(body, NARINFO_MAX_BYTES)
    if (statusCode === 404) return undefined
    if (statusCode === 202 || statusCode === 429) return 'later'
    if (statusCode !== 200) throw new Error(`expected status 200, 202 or 404, got ${statusCode}`)
    const { narHash, narSize, cid } = parseNarInfo(text, storeDir)
    // Another build of the same path: its differences are from another NAR.
    if (narHash !== wanted.narHash || narSize !== wanted.narSize || cid === undefined) return undefined
    return { root: parseCid(cid), told: sourcesOf(relay.id).blocks }
  }

  async function askUntil(
    relay: Neighbour,
    wanted: Parameters<RelayFinder['find']>[0],
    older: StorePath,
    options: CallOptions,
  ): Promise<RelayedRoot | undefined> {
    for (;;) {
      const answer = await ask(relay, wanted, older, options)
      if (answer !== 'later') return answer
      await sleep(RELAY_AGAIN_MS, undefined, { ...options, ref: false })
    }
  }

  return {
    relays: () => current().map(({ id }) => sourcesOf(id).blocks),
    async find(wanted, older, options) {
      for (const relay of current()) {
        try {
          const found = await askUntil(relay, wanted, older, options)
          if (found !== undefined) return found
        } catch (error) {
          options.signal.throwIfAborted()
          resting.set(relay.id, true)
          log.info(
            { neighbour: relay.id, path: wanted.storePath },
            `a relay was asked in vain, and is left alone for ${RELAY_REST_MS / 1000} s: ${messageOf(error)}`,
          )
        }
      }
      return undefined
    },
    close: () => dispatcher.destroy(),
  }
}
