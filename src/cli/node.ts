import type { Log } from '../log.ts'
import type { Operations } from '../operations/operations.ts'

export interface NodeDeps {
  readonly log: Log
}

/** A narswarm of this process: its state directory is locked, nothing listens yet. `wiring/node.ts` makes it. */
export interface NarswarmNode {
  readonly operations: Operations
  /** Opens the listeners of its profile and the admin socket, and starts to follow its feeds. Once. */
  serve(): Promise<Serving>
  /** Gives responses under way `graceMs`, then cuts them; releases the state directory. */
  close(graceMs: number): Promise<void>
}

/** What others can connect to, as they would write it. */
export interface Serving {
  /** For `substituters` of nix.conf. */
  readonly cacheUrl: string
  readonly peerUrl?: string
  readonly swarm?: { readonly peerId: string; readonly addrs: readonly string[] }
}
