import {
  DIAL_CANDIDATE_MS,
  DIAL_CANDIDATES_COUNT,
  DIAL_CANDIDATES_PER_SENDER_COUNT,
  DIAL_REST_CEILING_MS,
  DIAL_REST_FLOOR_MS,
  DIALS_AT_ONCE_COUNT,
  DIALS_PER_MINUTE_COUNT,
  HELLO_FRESH_MS,
  HELLO_NAMED_MS,
  MDNS_ADVERT_ADDRESSES_COUNT,
} from '../limits.ts'

/** Who is to be dialled, and when: whatever is heard, what it costs is bounded. */
export interface DialBook {
  /**
   * @param sender who said so; anybody can say it in anybody's name, so each gets a few entries only
   * @param addresses multiaddrs with the peer id
   */
  heard(peerId: string, addresses: readonly string[], sender: string): void
  /** These and no others are dialled although nobody is heard there. */
  name(addresses: readonly { readonly peerId: string; readonly address: string }[]): void
  /** One to dial now, begun with that; `done` must follow. Undefined: none, or enough are under way. */
  next(): Dial | undefined
  /** Its connection is gone: to be greeted as soon as it is heard. */
  gone(peerId: string): void
  /** It greeted us. */
  met(peerId: string): void
}

export interface Dial {
  readonly peerId: string
  readonly address: string
  done(isFine: boolean): void
}

interface Candidate {
  readonly peerId: string
  /** What was told last first. */
  addresses: string[]
  /** Those that are still to be tried before it counts as failed. */
  round: string[]
  named: string | undefined
  sender: string
  heardAt: number
  /** The end of the last round. */
  triedAt: number
  notBefore: number
  failures: number
  wasMet: boolean
  isUnderWay: boolean
}

export function createDialBook({ stopwatch }: { readonly stopwatch: () => number }): DialBook {
  const candidates = new Map<string, Candidate>()
  /** Dials of the last minute by sender: who says much does not come before the others. */
  const spent = new Map<string, number>()
  let minute = -Infinity
  let inMinute = 0
  let underWay = 0

  const turnMinute = (): void => {
    if (stopwatch() - minute < 60_000) return
    minute = stopwatch()
    inMinute = 0
    spent.clear()
  }

  /** @returns whether there is room for one more that this sender told of */
  const makeRoom = (sender: string): boolean => {
    const oldest = stopwatch() - DIAL_CANDIDATE_MS
    const heard = [...candidates.values()].filter(
      ({ named, isUnderWay }) => named === undefined && !isUnderWay,
    )
    for (const { peerId } of heard.filter(({ heardAt }) => heardAt < oldest)) candidates.delete(peerId)
    // Those that greeted us last, and of the others those that could not be reached first.
    const left = heard
      .filter(({ peerId }) => candidates.has(peerId))
      .sort((a, b) => Number(a.wasMet) - Number(b.wasMet) || b.failures - a.failures || a.heardAt - b.heardAt)
    const ofSender = left.filter((one) => one.sender === sender && !one.wasMet)
    if (ofSender.length >= DIAL_CANDIDATES_PER_SENDER_COUNT) {
      const [worst] = ofSender
      if (worst === undefined || worst.failures === 0) return false
      candidates.delete(worst.peerId)
    } else if (candidates.size >= DIAL_CANDIDATES_COUNT) {
      const [worst] = left
      if (worst === undefined || worst.wasMet) return false
      candidates.delete(worst.peerId)
    }
    return true
  }

  const create = (peerId: string, known: Partial<Candidate>): Candidate => {
    const candidate: Candidate = {
      peerId,
      addresses: [],
      round: [],
      named: undefined,
      sender: '',
      heardAt: -Infinity,
      triedAt: -Infinity,
      notBefore: -Infinity,
      failures: 0,
      wasMet: false,
      isUnderWay: false,
      ...known,
    }
    candidates.set(peerId, candidate)
    return candidate
  }

  const isDue = ({ named, round, heardAt, triedAt, notBefore, isUnderWay }: Candidate): boolean =>
    !isUnderWay && notBefore <= stopwatch() && (round.length > 0 || named !== undefined || heardAt > triedAt)

  const greeted = (candidate: Candidate): void => {
    candidate.wasMet = true
    candidate.failures = 0
    candidate.round = []
    candidate.triedAt = stopwatch()
    candidate.notBefore = stopwatch() + (candidate.named === undefined ? HELLO_FRESH_MS : HELLO_NAMED_MS)
  }

  return {
    heard(peerId, addresses, sender) {
      let candidate = candidates.get(peerId)
      if (candidate === undefined) {
        if (!makeRoom(sender)) return
        candidate = create(peerId, { sender })
      }
      candidate.heardAt = stopwatch()
      const fresh = addresses.filter((address) => !candidate.addresses.includes(address))
      candidate.addresses = [...fresh, ...candidate.addresses].slice(0, MDNS_ADVERT_ADDRESSES_COUNT)
    },
    name(addresses) {
      for (const candidate of candidates.values()) {
        candidate.named = undefined
      }
      for (const { peerId, address } of addresses) {
        const candidate = candidates.get(peerId) ?? create(peerId, {})
        candidate.named = address
      }
    },
    next() {
      turnMinute()
      if (underWay >= DIALS_AT_ONCE_COUNT) return undefined
      const isPaid = inMinute >= DIALS_PER_MINUTE_COUNT
      const candidate = [...candidates.values()]
        .filter((one) => isDue(one) && (one.named !== undefined || !isPaid))
        .sort(
          (a, b) =>
            Number(a.named === undefined) - Number(b.named === undefined) ||
            Number(b.wasMet) - Number(a.wasMet) ||
            (spent.get(a.sender) ?? 0) - (spent.get(b.sender) ?? 0) ||
            a.heardAt - b.heardAt,
        )[0]
      if (candidate === undefined) return undefined
      const { peerId, named, sender } = candidate
      if (candidate.round.length === 0) {
        candidate.round = [...new Set([...candidate.addresses, ...(named === undefined ? [] : [named])])]
      }
      const address = candidate.round.shift()
      if (address === undefined) return undefined
      candidate.isUnderWay = true
      underWay += 1
      if (named === undefined) {
        inMinute += 1
        spent.set(sender, (spent.get(sender) ?? 0) + 1)
      }
      return {
        peerId,
        address,
        done(isFine) {
          candidate.isUnderWay = false
          underWay -= 1
          if (isFine) {
            greeted(candidate)
            return
          }
          if (candidate.round.length > 0) return
          candidate.failures += 1
          candidate.triedAt = stopwatch()
          const restMs = DIAL_REST_FLOOR_MS * 2 ** (candidate.failures - 1)
          candidate.notBefore = stopwatch() + Math.min(DIAL_REST_CEILING_MS, restMs)
        },
      }
    },
    gone(peerId) {
      const candidate = candidates.get(peerId)
      if (candidate !== undefined) candidate.notBefore = -Infinity
    },
    met(peerId) {
      const candidate = candidates.get(peerId)
      if (candidate !== undefined) greeted(candidate)
    },
  }
}
