/** The table at the end of a run. */
import type { StatusDocument } from '../../../src/operations/status.ts'
import type { FaultProxy } from './fault-proxy.ts'
import type { Tally } from './tally.ts'

export function formatReport(
  tally: Tally,
  facts: { seconds: number; steady: string; got: StatusDocument; proxies: readonly FaultProxy[] },
): string {
  const ratio = (name: string): string =>
    `${tally.get(`${name} unhelpful`)} of ${tally.get(`${name} helpable`)}`
  const list = (prefix: string): string =>
    tally
      .all(prefix)
      .map(([name, count]) => `${name} ${count}`)
      .join(', ') || 'none'
  const deeds = new Map<string, number>()
  for (const proxy of facts.proxies) {
    for (const [name, count] of proxy.deeds) deeds.set(name, (deeds.get(name) ?? 0) + count)
  }
  const { got, given } = facts.got.blocks
  const wire = ({ bytes, wire_bytes: carried, by_difference: by }: typeof got): string =>
    `${mb(bytes)} of blocks as ${mb(carried)}, ${mb(by?.bytes ?? 0)} of them as differences of ${mb(by?.wire_bytes ?? 0)}`
  const rows: [string, string][] = [
    ['time', `${Math.round(facts.seconds)} s`],
    ['kills', `${tally.get('kills')}: ${list('kill ')}`],
    ['by failpoint', list('failpoint ')],
    ['clean ends', String(tally.get('clean ends'))],
    ['mean start', `${Math.round(tally.get('start ms') / Math.max(1, tally.get('starts')))} ms`],
    ['mishaps', list('mishap ')],
    ['faults of sources', [...deeds].map(([name, count]) => `${name} ${count}`).join(', ')],
    [
      'requests',
      `${tally.get('requests')}, ${Math.round(tally.get('bytes') / 1e6)} MB, nonsense ${tally.get('nonsense')}`,
    ],
    ['by outcome', list('outcome ')],
    ['by source', list('source ')],
    ['cut while up', `${tally.get('cut while up')}, resumed to the end ${tally.get('resumed to the end')}`],
    [
      'unhelpful 404s',
      `${ratio('just')} with a source well meanwhile, ${ratio('long')} well for long before`,
    ],
    ['unhelpful why', list('why ')],
    [
      'inquests',
      `${tally.get('inquests')}: ${tally.get('NARs hashed on disk')} NARs, ${tally.get('leaf rows checked')} leaf rows`,
    ],
    ['published', `${tally.get('published')} times; spoilt files ${tally.get('files spoilt')}`],
    ['had, not kept', `${tally.get('had but not kept')} (sum over inquests)`],
    ['steady', facts.steady],
    ['steady got', wire(got)],
    ['steady gave', wire(given)],
    ['steady, NARs', facts.got.nars.map(({ source, nars }) => `${source} ${nars}`).join(', ')],
    ['violations', String(tally.get('violations'))],
  ]
  return rows.map(([name, value]) => `${name.padEnd(18)} ${value}`).join('\n')
}

function mb(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`
}
