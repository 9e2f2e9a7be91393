/** Rates of several programs that do the same, one after the other. */
import { call } from './program.ts'
import { median, note } from './report.ts'

const ROUNDS = 15
/** Not counted: 1 GB until V8 has compiled what it runs often. */
const UNCOUNTED_ROUNDS = 5

/** In turn, since the machine's speed drifts. @returns the median of each */
export async function inTurn(
  what: string,
  programs: Record<string, () => Promise<number>>,
): Promise<number[]> {
  const rates = Object.entries(programs).map(([name, measure]) => ({ name, measure, all: [] as number[] }))
  for (let round = 0; round < UNCOUNTED_ROUNDS + ROUNDS; round++) {
    for (const { measure, all } of rates) all.push(await measure())
    const said = rates.map(({ name, all }) => `${name} ${all.at(-1)?.toFixed(0)}`)
    note(`  ${what}: ${said.join(', ')} MB/s`)
  }
  return rates.map(({ all }) => median(all.slice(UNCOUNTED_ROUNDS)))
}

/** MB/s. The client is curl, as in Nix; it does not hash. */
export async function rate(url: string): Promise<number> {
  const { stdout } = await call('curl', ['-sf', '-o', '/dev/null', '-w', '%{speed_download}', url])
  return Number(stdout) / 1e6
}
