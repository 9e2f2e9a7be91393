import { AUDIT_SAMPLE_DEFAULT_COUNT, AUDIT_SAMPLE_MAX_COUNT } from '../limits.ts'
import { VerificationError } from '../operations/operations.ts'
import type { AuditEvent } from '../operations/operations.ts'
import { NoSourceError } from '../substitute/errors.ts'
import { withOperations } from './connect.ts'
import type { CliContext, ConfigOption, JsonOption } from './context.ts'
import { UsageError } from './errors.ts'
import type { Output } from './output.ts'
import { count, formatBytes } from './units.ts'

interface VerifyFeedOptions extends ConfigOption, JsonOption {
  readonly feed: string
  readonly sample?: string
  readonly all?: true
}

/** `verify --feed`. */
export async function verifyFeed(context: CliContext, options: VerifyFeedOptions): Promise<void> {
  const { output, signal } = context
  const { feed, json } = options
  const sample = sampleOf(options)
  await withOperations(context, options, async (operations) => {
    output.progress(`verifying entries of ${feed}`)
    let seen = 0
    let bytes = 0
    for await (const event of operations.verifyFeed({ feed, sample }, { signal })) {
      if (json === true) output.json(jsonOf(event))
      if (event.kind === 'item') {
        seen += 1
        bytes += event.fetchedBytes
        if (json !== true) showItem(output, event)
        output.progress(`${count(seen, 'path')}, ${formatBytes(bytes)} fetched, last ${event.path}`)
      } else {
        conclude(output, event, json === true)
      }
    }
  })
}

function sampleOf({ sample, all }: VerifyFeedOptions): number | 'all' {
  if (sample !== undefined && all === true) throw new UsageError('expected --sample or --all, not both')
  if (all === true) return 'all'
  const wanted = sample === undefined ? AUDIT_SAMPLE_DEFAULT_COUNT : Number(sample)
  if (!Number.isInteger(wanted) || wanted < 1 || wanted > AUDIT_SAMPLE_MAX_COUNT) {
    throw new UsageError(`--sample: expected 1 to ${AUDIT_SAMPLE_MAX_COUNT}, got ${JSON.stringify(sample)}`)
  }
  return wanted
}

/** On a terminal one line follows the work, and only what needs a look stays. */
function showItem(output: Output, item: AuditEvent & { kind: 'item' }): void {
  const { outcome, path, narSize, told, computed, reason } = item
  const what = `${path}  ${formatBytes(narSize)}`
  switch (outcome) {
    case 'right':
      if (!output.watched) output.result(`right        ${what}`)
      break
    case 'wrong':
      output.result(
        `WRONG        ${what}  told ${told}, ${computed === undefined ? (reason ?? '') : `is ${computed}`}`,
      )
      break
    case 'unavailable':
    case 'untrusted':
      output.result(`${outcome.padEnd(11)}  ${what}  ${reason ?? ''}`.trimEnd())
      break
    default:
      outcome satisfies never
  }
}

/** @throws VerificationError when something was wrong, NoSourceError when nobody gave any of the bytes */
function conclude(output: Output, done: AuditEvent & { kind: 'done' }, json: boolean): void {
  const { feed, right, wrong, unavailable, untrusted, fetchedBytes } = done
  if (!json) {
    output.note(
      `feed ${feed}: ${right} right, ${wrong} wrong, ${unavailable} not to be had, ${untrusted} signed by nobody trusted; ${formatBytes(fetchedBytes)} fetched`,
    )
  }
  if (wrong > 0) throw new VerificationError(`${count(wrong, 'wrong CID')} told by feed ${feed}`)
  if (right === 0 && unavailable > 0) {
    throw new NoSourceError(`no source gave any of the bytes that feed ${feed} tells of`)
  }
}

function jsonOf(event: AuditEvent): object {
  if (event.kind === 'done') {
    const { fetchedBytes, ...rest } = event
    return { ...rest, fetched_bytes: fetchedBytes }
  }
  const { narHash, narSize, fetchedBytes, ...rest } = event
  return { ...rest, nar_hash: `sha256:${narHash}`, nar_size: narSize, fetched_bytes: fetchedBytes }
}
