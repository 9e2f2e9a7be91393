/** The latest of some measurements, of which high ones must not be forgotten by an average. */
export interface Samples {
  /** So many as are kept, at most. */
  readonly count: number
  add(value: number): void
  /** The least of them that is not exceeded by so large a share, in (0, 1]; undefined without any. */
  percentile(share: number): number | undefined
}

/** @param keep how many */
export function createSamples(keep: number): Samples {
  /** A ring. */
  const values: number[] = []
  let next = 0
  return {
    get count() {
      return values.length
    },
    add(value) {
      values[next] = value
      next = (next + 1) % keep
    },
    percentile(share) {
      return values.toSorted((a, b) => a - b)[Math.ceil(values.length * share) - 1]
    },
  }
}
