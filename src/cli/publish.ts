import { resolve } from 'node:path'
import { addAbortSignal } from 'node:stream'
import type { Readable } from 'node:stream'
import type { Command } from 'commander'
import { CLI_STDIN_MAX_BYTES } from '../limits.ts'
import type { PublishEvent, PublishRequest } from '../operations/operations.ts'
import { withOperations } from './connect.ts'
import { addConfigOption, addJsonOption } from './context.ts'
import type { CliContext, ConfigOption, JsonOption } from './context.ts'
import { UsageError } from './errors.ts'
import type { Output } from './output.ts'
import { resolvePathArgument } from './path-argument.ts'
import { count, formatBytes } from './units.ts'

interface PublishOptions extends ConfigOption, JsonOption {
  readonly feed: string
  readonly from?: string
  readonly dryRun?: true
  readonly stdin?: true
}

export function addPublish(program: Command, context: CliContext): void {
  addJsonOption(addConfigOption(program.command('publish')))
    .description('publish store paths, with their closure, into a feed of this machine')
    .argument('[path...]', 'store paths, or links to them; with --from also hash parts')
    .requiredOption('--feed <name>', 'the feed, made by: narswarm feed create NAME')
    .option('--from <cache>', 'take them from this binary cache (URL or folder), not from the local store')
    .option('--stdin', 'read more paths from stdin, one a line')
    .option('--dry-run', 'say what would be published, and change nothing')
    .addHelpText(
      'after',
      `
Only paths that are signed by one of share.keys are published; all others are skipped and
named. With --from a folder and no paths: all that the folder has.

Examples:
  narswarm publish --feed example.org/main ./result
  narswarm publish --feed example.org/main --from https://cache.example.org 7c5zrpajq5ydlg2zbbnfs1l4lwbxsdqq
  nix-store --query --requisites ./result | narswarm publish --feed example.org/main --stdin --dry-run`,
    )
    .action((paths: string[], options: PublishOptions) => publish(context, paths, options))
}

async function publish(context: CliContext, paths: string[], options: PublishOptions): Promise<void> {
  const { deps, signal } = context
  const given = options.stdin === true ? [...paths, ...(await readLines(deps.stdin, signal))] : paths
  if (given.length === 0 && (options.from === undefined || options.stdin === true)) {
    throw new UsageError('expected store paths to publish, got none')
  }
  await withOperations(context, options, async (operations, { storeDir }) => {
    const request: PublishRequest = {
      feed: options.feed,
      dryRun: options.dryRun === true,
      paths: await Promise.all(given.map((path) => resolvePathArgument(path, storeDir, deps.cwd))),
      ...(options.from === undefined ? {} : { from: cacheArgument(options.from, deps.cwd) }),
    }
    await report(context, operations.publish(request, { signal }), options)
  })
}

/** A running narswarm has another working directory: folders are told in full. */
function cacheArgument(text: string, cwd: string): string {
  return /^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : resolve(cwd, text)
}

async function report(
  { output }: CliContext,
  events: AsyncIterable<PublishEvent>,
  { json, dryRun }: PublishOptions,
): Promise<void> {
  const tally = { paths: 0, bytes: 0, skipped: 0 }
  for await (const event of events) {
    if (json === true) output.json(jsonOf(event))
    if (event.kind === 'item') {
      if (event.outcome === 'skipped') tally.skipped += 1
      else {
        tally.paths += 1
        tally.bytes += event.narSize
      }
      if (json !== true) showItem(output, event, dryRun === true)
      output.progress(`${count(tally.paths, 'path')}, ${formatBytes(tally.bytes)}, last ${event.path}`)
    } else if (json !== true) {
      const done = `${count(tally.paths, 'path')}, ${formatBytes(tally.bytes)}`
      const skipped = tally.skipped === 0 ? '' : `; skipped ${tally.skipped}`
      output.note(
        dryRun === true
          ? `would publish ${done}${skipped}`
          : `published ${done}${skipped}; feed ${event.feed} has ${event.size} entries, ${event.added} of them new`,
      )
    }
  }
}

/** On a terminal one line follows the work, and only what needs a look stays. */
function showItem(output: Output, item: PublishEvent & { kind: 'item' }, dryRun: boolean): void {
  const { path, narSize, outcome, cid, reason } = item
  switch (outcome) {
    case 'skipped':
      output.note(`skipped ${path}: ${reason ?? 'no reason given'}`)
      break
    case 'published':
    case 'would-publish':
      if (dryRun || !output.watched)
        output.result([path, formatBytes(narSize), cid ?? ''].join('  ').trimEnd())
      break
    default:
      outcome satisfies never
  }
}

function jsonOf(event: PublishEvent): object {
  if (event.kind === 'done') return event
  const { kind, path, narSize, outcome, cid, reason } = event
  return { kind, path, nar_size: narSize, outcome, cid, reason }
}

async function readLines(stdin: Readable, signal: AbortSignal): Promise<string[]> {
  const chunks: Uint8Array[] = []
  let size = 0
  // Without this, Ctrl-C would wait for the next line.
  for await (const chunk of addAbortSignal(signal, stdin) as AsyncIterable<Uint8Array>) {
    size += chunk.byteLength
    if (size > CLI_STDIN_MAX_BYTES) {
      throw new UsageError(`expected at most ${CLI_STDIN_MAX_BYTES} bytes of paths on stdin, got more`)
    }
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
    .toString('utf8')
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
}
