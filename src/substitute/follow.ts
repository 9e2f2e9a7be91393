/** Takes what one way gives into the file, until the NAR is whole, the way ends, or the next one takes over. */
import { WRITES_BEHIND_COUNT } from '../limits.ts'
import type { CallOptions, SourceId } from '../source.ts'
import type { SpoolFile } from '../spool/spool-file.ts'
import { watchWithHedge } from './hedge.ts'
import type { HedgeRequest } from './hedge.ts'
import type { AppendHow } from './nar-in-hand.ts'
import type { Runner, RunnerDeps } from './runner.ts'
import { createWriteBehind } from './write-behind.ts'

/** As `NarInHand.append`. */
export type Take = (bytes: Uint8Array, from: SourceId, how: AppendHow) => Promise<void>

export interface Followed {
  /** Why the way ended before the NAR; undefined when all of it came, or another one took over. */
  readonly failure: unknown
  /** The next way, begun already. */
  readonly next: Runner | undefined
}

/**
 * All that was taken is on disk when this returns or throws.
 *
 * @param request.target what `take` appends to
 * @throws what `take` throws; the signal's reason
 */
export async function follow(
  runner: Runner,
  request: HedgeRequest & { target: Pick<SpoolFile, 'prefix'>; take: Take },
  deps: RunnerDeps,
  { signal }: CallOptions,
): Promise<Followed> {
  const { target, take } = request
  const writes = createWriteBehind(WRITES_BEHIND_COUNT)
  const hedge = watchWithHedge(runner, request, deps)
  /** Where the piece begins, and where the writes under way will end. */
  let at = runner.start
  let end = target.prefix
  let failure: unknown
  try {
    for (;;) {
      hedge.waitsSince = deps.clock()
      let piece
      try {
        const next = await runner.next()
        if (next.done === true) break
        piece = next.value
      } catch (error) {
        if (hedge.winner === undefined) failure = error
        break
      }
      hedge.waitsSince = undefined
      const { bytes, from, digest, release } = piece
      // The beginning may have come another way, while this one was beginning.
      const skip = Math.min(bytes.length, Math.max(0, end - at))
      at += bytes.length
      if (skip === bytes.length) {
        release?.()
        continue
      }
      end += bytes.length - skip
      await writes.add(
        skip === 0 ? take(bytes, from, { digest, release }) : take(bytes.subarray(skip), from, { release }),
      )
      if (hedge.winner !== undefined) break
    }
    await writes.drain()
    signal.throwIfAborted()
    const left = hedge.stop()
    if (hedge.winner !== undefined) return { failure: undefined, next: hedge.winner }
    if (failure !== undefined) {
      await hedge.settled()
      return { failure, next: left }
    }
    await left?.stop(new Error('the NAR is whole'))
    return { failure: undefined, next: undefined }
  } catch (error) {
    const reason = error instanceof Error ? error : new Error(String(error))
    void hedge.stop()?.stop(reason)
    void hedge.winner?.stop(reason)
    throw error
  } finally {
    hedge.stop()
    await runner.stop(new Error('nobody follows this way any more'))
    await writes.drain().catch(() => {})
  }
}
