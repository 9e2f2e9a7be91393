/** All that is counted, and each violation with what led to it. */
import { appendFile, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Exchange, Verdict } from './judge.ts'

export interface Tally {
  count(name: string, by?: number): void
  get(name: string): number
  /** Those whose name starts with `prefix`, most frequent first, the prefix taken off. */
  all(prefix: string): [name: string, count: number][]
  /** One answer, judged. Kept among the last ones, for a look at what came before a violation. */
  answer(who: { name: string; log(): string }, exchange: Exchange, verdict: Verdict): void
  violation(what: string, evidence?: object): void
  readonly violations: readonly string[]
  /** Writes what is known of the violations so far, and the logs. */
  keep(logs: Readonly<Record<string, string>>): Promise<void>
}

const LAST_COUNT = 400
const VIOLATIONS_MAX_COUNT = 200

export function createTally(dir: string, say: (line: string) => void): Tally {
  const counts = new Map<string, number>()
  const last: object[] = []
  const violations: string[] = []
  const evidences: object[] = []
  const begun = performance.now()

  const count = (name: string, by = 1): void => void counts.set(name, (counts.get(name) ?? 0) + by)
  const seconds = (): number => Math.round(performance.now() - begun) / 1000
  const violation = (what: string, evidence: object = {}): void => {
    count('violations')
    if (violations.length >= VIOLATIONS_MAX_COUNT) return
    violations.push(`${seconds()} s: ${what}`)
    evidences.push({ at: seconds(), what, ...evidence, before: last.slice(-40) })
    say(`VIOLATION at ${seconds()} s: ${what}`)
  }

  return {
    count,
    get: (name) => counts.get(name) ?? 0,
    all: (prefix) =>
      [...counts]
        .filter(([name]) => name.startsWith(prefix))
        .map(([name, value]): [string, number] => [name.slice(prefix.length), value])
        .sort((a, b) => b[1] - a[1]),
    answer(who, exchange, verdict) {
      count('requests')
      count('bytes', exchange.received)
      count(`outcome ${'violation' in verdict ? 'violation' : verdict.outcome}`)
      const source = exchange.headers['x-narswarm-source']
      if (source !== undefined) count(`source ${/^[a-z]+/.exec(source)?.[0] ?? source}`)
      const { body, ...told } = exchange
      last.push({ at: seconds(), who: who.name, ...told, ...verdict })
      if (last.length > LAST_COUNT) last.shift()
      if ('violation' in verdict) {
        const text = `${who.name}: ${exchange.method} ${exchange.target}: ${verdict.violation}`
        violation(text, {
          ...told,
          body: body.subarray(0, 4096).toString('latin1'),
          log: who.log().slice(-20_000),
        })
      }
    },
    violation,
    violations,
    async keep(logs) {
      await mkdir(dir, { recursive: true })
      await writeFile(join(dir, 'violations.jsonl'), '')
      for (const one of evidences) {
        await appendFile(join(dir, 'violations.jsonl'), `${JSON.stringify(one)}\n`)
      }
      await writeFile(join(dir, 'last.jsonl'), last.map((one) => `${JSON.stringify(one)}\n`).join(''))
      for (const [name, text] of Object.entries(logs)) await writeFile(join(dir, `${name}.log`), text)
    },
  }
}
