/** One JSON line a figure: ours, the peer's of the same run, and what became of the bar. */
export interface Figure {
  readonly bench: string
  readonly unit: 'MB/s' | 'MB' | 'req/s' | 'ms' | 's' | 'clients'
  readonly ours: number
  /** What it is held against, in the same run. */
  readonly peer?: string
  readonly theirs?: number
  /** A ratio to the peer that must be reached or not be passed, an absolute figure that must not be, or nothing but told. */
  readonly bar:
    { readonly atLeastRatio: number } | { readonly atMostRatio: number } | { readonly below: number } | 'none'
}

/** @returns whether the bar was reached */
export function report(figure: Figure): boolean {
  const { ours, theirs, bar } = figure
  const ratio = theirs === undefined ? undefined : ours / theirs
  const passed = isReached(bar, ours, ratio)
  process.stdout.write(
    `${JSON.stringify({
      bench: figure.bench,
      unit: figure.unit,
      ours: round(ours),
      ...(theirs === undefined ? {} : { peer: figure.peer, theirs: round(theirs), ratio: round(ratio ?? 0) }),
      ...(bar === 'none' ? {} : { bar: formatBar(bar, figure.unit), passed }),
    })}\n`,
  )
  return passed
}

function isReached(bar: Figure['bar'], ours: number, ratio: number | undefined): boolean {
  if (bar === 'none') return true
  if ('below' in bar) return ours < bar.below
  if (ratio === undefined) return false
  return 'atLeastRatio' in bar ? ratio >= bar.atLeastRatio : ratio <= bar.atMostRatio
}

function formatBar(bar: Exclude<Figure['bar'], 'none'>, unit: Figure['unit']): string {
  if ('below' in bar) return `< ${bar.below} ${unit}`
  return 'atLeastRatio' in bar ? `>= ${bar.atLeastRatio} x` : `<= ${bar.atMostRatio} x`
}

export function note(text: string): void {
  process.stderr.write(`${text}\n`)
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
}

function round(value: number): number {
  return Math.round(value * 100) / 100
}
