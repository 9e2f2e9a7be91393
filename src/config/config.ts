/** The configuration as the program uses it: complete, checked, each value with where it came from. */
import type { PublicKey } from '../nix/key.ts'
import type { PathPattern } from '../nix/path-pattern.ts'
import type { HostPort } from './address.ts'
import type { LAN_ASK, Profile } from './schema.ts'

/** Where a value came from, later ones before earlier ones. */
export type Origin = 'default' | 'nix.conf' | 'file' | 'environment' | 'flag'

interface FollowedFeedConfig {
  readonly name: string
  readonly rootKey: string
  readonly sources: readonly URL[]
}

export interface Config {
  readonly profile: Profile
  readonly storeDir: string
  readonly storeRoot: string | undefined
  readonly stateDir: string
  readonly upstreams: readonly URL[]
  readonly cache: {
    readonly listen: HostPort
    readonly priority: number
    readonly allowedHosts: readonly string[]
  }
  /** Absent: there is no such listener. */
  readonly peer: { readonly listen: HostPort } | undefined
  readonly swarm: { readonly listen: readonly string[] }
  readonly trust: { readonly keys: readonly PublicKey[]; readonly threshold: number }
  readonly share: {
    readonly keys: readonly PublicKey[]
    /** Wins over `keys`. */
    readonly deny: readonly PathPattern[]
    /** Bytes a second over all doors; undefined: as fast as it goes. */
    readonly upload: number | undefined
    /** Bytes a second; 0: the store is not indexed by itself. */
    readonly indexRate: number
  }
  readonly lan: {
    /** Where neighbours are looked for by mDNS; interfaces: all but loopback when there are none. */
    readonly discover: boolean
    readonly interfaces: readonly string[] | undefined
    readonly ask: (typeof LAN_ASK)[number]
  }
  readonly peers: { readonly urls: readonly URL[]; readonly addrs: readonly string[] }
  readonly feeds: readonly FollowedFeedConfig[]
  /** Bytes; undefined: by the size of the disk. */
  readonly spool: { readonly maxBytes: number | undefined; readonly minFreeBytes: number | undefined }
  readonly upgrade: {
    readonly rewrite: boolean
    /** Absent: nothing is fetched for others. */
    readonly relay: { readonly maxBytesPerDay: number } | undefined
  }
  readonly audit: { readonly maxBytesPerDay: number }
  readonly log: { readonly level: 'debug' | 'info' | 'warn' | 'error'; readonly format: 'text' | 'json' }
  /** By the key's name in the file, such as `cache.listen`. */
  readonly origins: ReadonlyMap<string, Origin>
  /** What is odd and not wrong, for the log and `check-config`. */
  readonly warnings: readonly string[]
}

/** Whether others get anything from this machine. With `upload` 0 it takes and does not give. */
export function shares({ profile, share }: Pick<Config, 'profile' | 'share'>): boolean {
  return profile !== 'private' && share.upload !== 0
}
