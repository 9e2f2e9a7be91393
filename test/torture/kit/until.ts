import { setTimeout as sleep } from 'node:timers/promises'
import type { StatusDocument } from '../../../src/operations/status.ts'
import type { Subject } from './subject.ts'

const DEADLINE_MS = 30_000

/** Waits for a status. @throws when the process does not come to it in time */
export async function hasStatus(
  subject: Subject,
  wanted: (status: StatusDocument) => boolean,
  signal: AbortSignal,
): Promise<StatusDocument> {
  let last: unknown
  for (const end = Date.now() + DEADLINE_MS; Date.now() < end; await sleep(30)) {
    try {
      const status = await subject.operations.status({ signal })
      if (wanted(status)) return status
      last = status
    } catch (error) {
      signal.throwIfAborted()
      last = error
    }
    if (!subject.running()) break
  }
  throw new Error(`${subject.name} is not as wanted:\n${subject.log()}`, { cause: last })
}
