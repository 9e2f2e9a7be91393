/** `/readyz`: whether this narswarm can do what it is for. Nix never asks; units and load balancers do. */

export interface ReadinessParts {
  /** Names of trusted keys, and how many must have signed. */
  readonly trustedKeys: number
  readonly threshold: number
  /** Of narinfos: upstreams, followed feeds, the local store. */
  readonly sources: number
  readonly stateDir: string
  /** Throws when nothing can be written to the folder. */
  checkWritable(dir: string): void
}

/** Why no path can be answered, or no NAR be fetched, in words without paths; undefined when all is well. */
export function notReady(parts: ReadinessParts): string | undefined {
  if (parts.trustedKeys < parts.threshold) {
    return `${parts.threshold} trusted keys must have signed a path, and ${parts.trustedKeys} are configured`
  }
  if (parts.sources === 0) return 'there is no upstream, no feed and no local store to ask'
  try {
    parts.checkWritable(parts.stateDir)
  } catch {
    return 'the state directory cannot be written to'
  }
  return undefined
}
