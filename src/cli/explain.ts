import type { Command } from 'commander'
import type { ExplainReport, WayReport } from '../operations/explain.ts'
import type { OlderPath, OlderPaths } from '../operations/older-paths.ts'
import { withOperations } from './connect.ts'
import { addConfigOption, addJsonOption } from './context.ts'
import type { CliContext, ConfigOption, JsonOption } from './context.ts'
import { printFacts } from './facts.ts'
import type { Fact } from './facts.ts'
import { resolvePathArgument } from './path-argument.ts'
import { count, formatBytes } from './units.ts'

export function addExplain(program: Command, context: CliContext): void {
  addJsonOption(addConfigOption(program.command('explain')))
    .description('say what is known of a store path, and where Nix would get it from now')
    .argument('<path>', 'store path, or a link to one, or its hash part')
    .addHelpText(
      'after',
      `
Asks whom a look-up asks, and hashes what older paths here could give of it (30 s at most). Fetches
no NAR, and keeps nothing.

Examples:
  narswarm explain /nix/store/7c5zrpajq5ydlg2zbbnfs1l4lwbxsdqq-hello-2.12
  narswarm explain --json 7c5zrpajq5ydlg2zbbnfs1l4lwbxsdqq`,
    )
    .action((path: string, options: ConfigOption & JsonOption) => explain(context, path, options))
}

async function explain(context: CliContext, text: string, options: ConfigOption & JsonOption): Promise<void> {
  const { deps, output, signal } = context
  await withOperations(context, options, async (operations, { storeDir }) => {
    const asked = await resolvePathArgument(text, storeDir, deps.cwd)
    output.progress(`looking for ${text}`)
    const report = await operations.explain(asked, { signal })
    if (options.json === true) output.json(report)
    else {
      output.result(report.path)
      printFacts(output, factsOf(report))
    }
  })
}

function factsOf(report: ExplainReport): Fact[] {
  const { answers, nar, here, older_paths: older, ways, relay } = report
  const told = answers.filter(({ outcome }) => outcome === 'told').map(({ source }) => nameOf(source))
  const others = answers.filter(({ outcome }) => outcome !== 'told').map(answerLine)
  if (nar === undefined) {
    const isRefused = answers.some(({ outcome }) => outcome === 'refused')
    return [
      ['narinfo', [isRefused ? 'told, and not signed by a trusted key' : 'known to nobody who was asked']],
      ['asked', others],
      ['now', ['404: Nix takes its next substituter, or builds it']],
    ]
  }
  return [
    ['NAR', [`${nar.nar_hash}, ${formatBytes(nar.nar_size)}, ${count(nar.references, 'reference')}`]],
    ['signed by', nar.keys],
    ['told by', told],
    ...(others.length === 0 ? [] : [['not told by', others] as const]),
    ['here', here === undefined ? [] : hereFacts(here)],
    ['older paths', older === undefined ? [] : olderFacts(older)],
    ['ways', (ways ?? []).map(wayLine)],
    ...(relay === undefined ? [] : [['relay', [relayLine(relay)]] as const]),
    ['now', [nowLine(report)]],
  ]
}

/** What went out before stands in a table. */
function nameOf(source: string): string {
  if (source === 'table') return 'this narswarm, which gave it before'
  return source === 'store' ? 'the Nix store' : source
}

function answerLine({ source, outcome, reason = '' }: ExplainReport['answers'][number]): string {
  const name = nameOf(source)
  switch (outcome) {
    case 'told':
      return name
    case 'miss':
      return `${name}: does not have it`
    case 'resting':
      return `${name}: failed lately, and was not asked`
    case 'failed':
      return `${name}: failed: ${reason}`
    case 'refused':
      return `${name}: not believed: ${reason}`
    default:
      return outcome satisfies never
  }
}

function hereFacts({ spool, store }: NonNullable<ExplainReport['here']>): string[] {
  const stores = {
    no: [],
    yes: ['valid in the Nix store'],
    other: ['valid in the Nix store, as another NAR'],
  } as const
  const facts = [...stores[store], ...(spool ? ['in the spool'] : [])]
  return facts.length === 0 ? ['neither in the Nix store nor in the spool'] : facts
}

function olderFacts({ state, paths }: OlderPaths): string[] {
  if (state === 'off') return ['not looked for: upgrade.rewrite is off']
  if (state === 'no-store') return ['not looked for: there is no Nix store here']
  const isAny = paths.some(({ outcome }) => !outcome.startsWith('other-'))
  return [...(isAny ? [] : ['none here has its name and size']), ...paths.map(olderLine)]
}

function olderLine(it: OlderPath): string {
  const { path, references, leaves, took_ms: tookMs, has_failed: hasFailed } = it
  const pairs =
    references && references.of > 0 ? `${references.paired} of ${references.of} references paired` : undefined
  const blocks = leaves && `${leaves.right} of ${leaves.of} blocks right`
  const took = tookMs === undefined ? undefined : `${tookMs} ms`
  const rests = hasFailed === true ? 'failed within the last hour, so not tried again yet' : undefined
  const facts = [outcomeOf(it), pairs, blocks, took, rests].filter((fact) => fact !== undefined)
  return `${path}: ${facts.join('; ')}`
}

function outcomeOf({ outcome, reason = '', nar_size: narSize }: OlderPath): string {
  switch (outcome) {
    case 'right':
      return 'gives the whole NAR'
    case 'wrong':
      return 'gives another NAR'
    case 'unpaired':
      return 'cannot give the whole'
    case 'unreadable':
      return `cannot be read: ${reason}`
    case 'late':
      return 'not hashed in time'
    case 'other-name':
      return `another name, ${formatBytes(narSize)}`
    case 'other-size':
      return `another size, ${formatBytes(narSize)}`
    case 'not-tried':
      return 'not tried: others of its name and size come first'
    default:
      return outcome satisfies never
  }
}

function wayLine({ way, source, root = '', peers = [], state, bytes_per_second: pace }: WayReport): string {
  const from = peers.length === 0 ? 'no peer to ask' : `from ${peers.join(', ')}`
  const name = way === 'blocks' ? `blocks of ${root}, told by ${nameOf(source)}, ${from}` : source
  const last = state === 'last-resort' ? '; failed lately, so tried last' : ''
  return `${name}${pace === undefined ? '' : `; ${formatBytes(pace)} a second of late`}${last}`
}

function relayLine({ sources, older }: NonNullable<ExplainReport['relay']>): string {
  return `${sources.join(', ')}: asked for the difference from ${older}, should it come slowly`
}

function nowLine({ now, older_paths: older }: ExplainReport): string {
  switch (now) {
    case undefined:
      return '404: nobody gives its bytes'
    case 'spool':
      return 'as it lies in the spool'
    case 'store':
      return 'as it lies in the Nix store'
    case 'blocks':
      return 'block by block, from peers'
    case 'rewritten': {
      const made = older?.paths.find(({ outcome }) => outcome === 'right')
      return `made of ${made?.path ?? 'an older path'}: nobody has to send a byte`
    }
    default:
      return `from ${now}`
  }
}
