/** How many bytes there were to move, and how many of them, coded or not, went over the wire. */
export interface WireBytes {
  readonly bytes: number
  readonly wireBytes: number
}

export interface WireCount {
  add(bytes: number, wireBytes: number): void
  total(): WireBytes
}

export function createWireCount(): WireCount {
  let bytes = 0
  let wireBytes = 0
  return {
    add(more, moreOnWire) {
      bytes += more
      wireBytes += moreOnWire
    },
    total: () => ({ bytes, wireBytes }),
  }
}
