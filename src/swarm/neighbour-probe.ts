import { Agent, request } from 'undici'
import type { Dispatcher } from 'undici'
import { CACHE_INFO_MAX_BYTES, GATEWAY_MAX_HEADER_BYTES, NEIGHBOUR_PROBE_DEADLINE_MS } from '../limits.ts'
import { parseCacheInfo } from '../nix/cache-info.ts'
import { quote } from '../nix/quote.ts'
import type { CallOptions } from '../source.ts'
import { knowsDictionaries } from './dcz.ts'
import type { Neighbour } from './neighbours.ts'
import { RELAY_HEADER } from './relay-wire.ts'
import { readSmallText } from './small-text.ts'

/** It is there, and of no use: no binary cache, or one of another store. */
class NeighbourUnfitError extends Error {
  override readonly name = 'NeighbourUnfitError'
}

export interface NeighbourProbe {
  /**
   * Asks what is at `url`, within NEIGHBOUR_PROBE_DEADLINE_MS. Follows no redirect.
   *
   * @param url base of its routes, with a slash at its end
   * @param isNarswarm known already: whether it has a gateway, and what that knows, is not asked
   * @throws NeighbourUnfitError, or what the network had to say
   */
  ask(url: URL, isNarswarm: boolean, options: CallOptions): Promise<ProbeAnswer>
  close(): Promise<void>
}

interface ProbeAnswer {
  /** A cache without a gateway, or (a Kubo) a gateway, were it without a cache. */
  readonly kind: Neighbour['kind']
  readonly hasCache: boolean
  readonly knowsDifferences: boolean
  /** Until the head of the first answer. */
  readonly latencyMs: number
  /** It says so. */
  readonly isRelay: boolean
}

interface Got {
  readonly status: number
  readonly headers: Dispatcher.ResponseData['headers']
  readonly text: string
}

/** An identity CID with nothing in it: how clients find out whether there is a gateway (trustless gateway spec). */
const GATEWAY_PROBE = 'ipfs/bafkqaaa?format=raw'

export function createNeighbourProbe(
  deps: { readonly stopwatch: () => number },
  config: { readonly storeDir: string },
): NeighbourProbe {
  const { stopwatch } = deps
  const dispatcher = new Agent({
    connections: 2,
    connect: { timeout: NEIGHBOUR_PROBE_DEADLINE_MS },
    maxHeaderSize: GATEWAY_MAX_HEADER_BYTES,
    allowH2: false,
    // A connection kept from the last time says nothing about whether there is still somebody who takes new ones.
    pipelining: 0,
  })

  const get = async (url: URL, signal: AbortSignal): Promise<Got> => {
    const { statusCode, headers, body } = await request(url, {
      dispatcher,
      signal,
      headers: { 'accept-encoding': 'identity' },
    })
    return { status: statusCode, headers, text: await readSmallText(body, CACHE_INFO_MAX_BYTES) }
  }

  return {
    async ask(url, isNarswarm, options) {
      const signal = AbortSignal.any([options.signal, AbortSignal.timeout(NEIGHBOUR_PROBE_DEADLINE_MS)])
      const begun = stopwatch()
      const info = await get(new URL('nix-cache-info', url), signal)
      const latencyMs = stopwatch() - begun
      if (info.status === 200) checkStoreDir(info.text, config.storeDir)
      else if (info.status !== 404) throw new Error(`nix-cache-info: HTTP ${info.status}`)
      const gateway = isNarswarm
        ? { knowsDifferences: true }
        : await get(new URL(GATEWAY_PROBE, url), signal).then(
            ({ status, text, headers }) =>
              status === 200 && text === ''
                ? { knowsDifferences: knowsDictionaries(String(headers['vary'] ?? '')) }
                : undefined,
            () => undefined,
          )
      const hasGateway = gateway !== undefined
      if (!hasGateway && info.status !== 200) {
        throw new NeighbourUnfitError('it is no binary cache: nix-cache-info is not there')
      }
      const isRelay = hasGateway && info.status === 200 && info.headers[RELAY_HEADER] === '1'
      const { knowsDifferences = false } = gateway ?? {}
      const hasCache = info.status === 200
      return { kind: hasGateway ? 'narswarm' : 'cache', hasCache, knowsDifferences, latencyMs, isRelay }
    },
    close: () => dispatcher.destroy(),
  }
}

/** @throws NeighbourUnfitError, CacheInfoError */
function checkStoreDir(text: string, ours: string): void {
  const { storeDir = ours } = parseCacheInfo(text)
  if (storeDir === ours) return
  throw new NeighbourUnfitError(`its store is ${quote(storeDir)}, ours is ${ours}`)
}
