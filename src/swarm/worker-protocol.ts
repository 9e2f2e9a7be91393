/**
 * What the main thread and the worker thread of the swarm node say to each other: two closed unions. Block bytes cross
 * as transferred ArrayBuffers, never as copies; after the transfer the sender must not touch them.
 */

import type { SharedLine } from './upload.ts'

/** Why a block did not come, in the words of `source.ts`: SourceMissError, SourceFaultError, SourceLieError. */
export type FailureKind = 'miss' | 'fault' | 'lie'

/** `workerData` of the worker. Paths, not handles: it opens its own, read-only. */
export interface WorkerConfig {
  /** Private key of the node, created when it is not there. */
  readonly keyFile: string
  /** Multiaddrs to listen on; none: it only dials. */
  readonly listen: readonly string[]
  /** Present: only addresses of a LAN come in, and only they and these multiaddrs are dialled. */
  readonly lan?: { readonly alsoDials: readonly string[] }
  /** What is given keeps to it; absent: as fast as it goes. */
  readonly line?: SharedLine
  /** What other peers may have from us; absent: nothing, every want is answered "don't have". */
  readonly serve?: ServeConfig
}

export interface ServeConfig {
  readonly stateDb: string
  readonly spoolDir: string
  readonly store?: { readonly storeDir: string; readonly root?: string; readonly stateDir?: string }
}

/** Whom to look for, and what to say to them. */
export interface DiscoverConfig {
  readonly hello: {
    /** Port of the peer listener; 0: there is none. */
    readonly http: number
    readonly storeDir: string
  }
  /** Names of those that neighbours are looked for on and may come from; absent: all but loopback, from private addresses. */
  readonly interfaces?: readonly string[]
  /** Absent: nobody is looked for by mDNS. */
  readonly mdns?: { readonly port?: number }
  /** Multiaddrs of those to be greeted anyhow. */
  readonly named: readonly string[]
}

export type ToWorker =
  | {
      readonly type: 'fetch'
      /** Correlates the one answer, `block` or `failure`. Never used twice in the life of a worker. */
      readonly id: number
      /** Multiaddr that ends in `/p2p/<peer id>`. */
      readonly peer: string
      readonly cid: Uint8Array
      readonly maxBytes: number
    }
  /** Frees the want; no answer follows, and one that is already under way is dropped. */
  | { readonly type: 'cancel'; readonly id: number }
  /** Once, when the listeners are open. */
  | { readonly type: 'discover'; readonly config: DiscoverConfig }
  /** In place of those of `discover`. */
  | { readonly type: 'name'; readonly addrs: readonly string[] }
  | { readonly type: 'stop' }

export type FromWorker =
  | { readonly type: 'ready'; readonly peerId: string; readonly addrs: readonly string[] }
  | { readonly type: 'block'; readonly id: number; readonly bytes: Uint8Array }
  | { readonly type: 'failure'; readonly id: number; readonly kind: FailureKind; readonly message: string }
  /** A narswarm for our store proved its peer id, and has a peer listener at `url`. Told again each time it is met. */
  | { readonly type: 'neighbour'; readonly peerId: string; readonly url: string }
  | {
      readonly type: 'log'
      readonly level: 'debug' | 'info' | 'warn' | 'error'
      readonly fields: object
      readonly message: string
    }
