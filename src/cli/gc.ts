import type { Command } from 'commander'
import { parseSize } from '../config/size.ts'
import { messageOf } from '../log.ts'
import type { GcItem, GcReport } from '../spool/keeper.ts'
import { withOperations } from './connect.ts'
import { addConfigOption, addJsonOption } from './context.ts'
import type { CliContext, ConfigOption, JsonOption } from './context.ts'
import { UsageError } from './errors.ts'
import type { Output } from './output.ts'
import { count, formatBytes } from './units.ts'

interface GcOptions extends ConfigOption, JsonOption {
  readonly dryRun?: true
  readonly maxSize?: string
}

export function addGc(program: Command, context: CliContext): void {
  addJsonOption(addConfigOption(program.command('gc')))
    .description('remove from the spool what the Nix store has by now, and what is too much')
    .option('--dry-run', 'say what would go, and remove nothing')
    .option('--max-size <size>', 'what may stay, such as 5GiB; 0: nothing (default: spool.max_size)')
    .addHelpText(
      'after',
      `
A running narswarm does this by itself, within spool.max_size and spool.min_free. What was published
from a binary cache stays, and so does what is being read. The Nix store is never touched.

Examples:
  narswarm gc --dry-run
  narswarm gc --max-size 0`,
    )
    .action((options: GcOptions) => gc(context, options))
}

async function gc(context: CliContext, options: GcOptions): Promise<void> {
  const { output, signal } = context
  const maxBytes = options.maxSize === undefined ? undefined : sizeArgument(options.maxSize)
  const dryRun = options.dryRun === true
  await withOperations(context, options, async (operations) => {
    output.progress('looking through the spool')
    const request = maxBytes === undefined ? { dryRun } : { dryRun, maxBytes }
    const report = await operations.gc(request, { signal })
    if (options.json === true) output.json(jsonOf(report))
    else print(output, report)
  })
}

/** @throws UsageError */
function sizeArgument(text: string): number {
  try {
    return parseSize(text)
  } catch (error) {
    throw new UsageError(`--max-size: ${messageOf(error)}`)
  }
}

const REASONS = {
  imported: 'the Nix store has it',
  expired: 'a part that nobody went on with',
  room: 'not used for the longest time',
} as const satisfies Record<GcItem['reason'], string>

function print(output: Output, { dryRun, items, count: all, freedBytes, leftBytes }: GcReport): void {
  for (const { narHash, kind, bytes, reason } of items) {
    output.result(`${kind}  sha256:${narHash}  ${formatBytes(bytes)}  ${REASONS[reason]}`)
  }
  if (all > items.length) output.note(`and ${all - items.length} more`)
  const verb = dryRun ? 'would free' : 'freed'
  output.note(`${verb} ${formatBytes(freedBytes)} (${count(all, 'file')}); ${formatBytes(leftBytes)} stay`)
}

function jsonOf({ dryRun, items, count: all, freedBytes, leftBytes }: GcReport): object {
  return {
    version: 1,
    dry_run: dryRun,
    items: items.map(({ narHash, kind, bytes, reason }) => ({
      nar_hash: `sha256:${narHash}`,
      kind,
      bytes,
      reason,
    })),
    count: all,
    freed_bytes: freedBytes,
    left_bytes: leftBytes,
  }
}
