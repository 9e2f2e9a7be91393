/** How many bytes there were to move, and how many of them, coded or not, went over the wire. */
export interface WireBytes {
  readonly bytes: number
  readonly wireBytes: number
}

export interface WireCount {
  /** @param byDifference from another block that the peer has */
  add(bytes: number, wireBytes: number, byDifference?: boolean): void
  total(): WireBytes
  /** Of the total those that went by difference. */
  byDifference(): WireBytes
}

export function createWireCount(): WireCount {
  let bytes = 0
  let wireBytes = 0
  const differences = { bytes: 0, wireBytes: 0 }
  return {
    add(more, moreOnWire, byDifference = false) {
      bytes += more
      wireBytes += moreOnWire
      if (!byDifference) return
      differences.bytes += more
      differences.wireBytes += moreOnWire
    },
    total: () => ({ bytes, wireBytes }),
    byDifference: () => ({ ...differences }),
  }
}
