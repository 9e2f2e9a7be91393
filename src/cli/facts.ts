import type { Output } from './output.ts'

/** A name, and what is to be said under it, a line each. */
export type Fact = readonly [name: string, values: readonly string[]]

export function printFacts(output: Output, facts: readonly Fact[]): void {
  const width = Math.max(...facts.map(([name]) => name.length))
  for (const [name, values] of facts) {
    const [first = 'none', ...rest] = values
    output.result(`${name.padEnd(width)}  ${first}`)
    for (const value of rest) output.result(`${' '.repeat(width)}  ${value}`)
  }
}
