import type { TestContext } from 'node:test'
import type { NixMachine } from '../../e2e/kit/nix-machine.ts'
import { nameOfPath, zstdBytes } from './installs.ts'
import type { Installed } from './installs.ts'

interface Row extends Installed {
  readonly zstdBytes: number
}

const HEADER = ['package', 'NAR bytes', 'zstd -3', 'NAR bytes on the wire', 'other bytes', 'made of']

/** @param machine one that has these paths */
export async function withZstd(machine: NixMachine, installed: readonly Installed[]): Promise<Row[]> {
  const rows: Row[] = []
  for (const one of installed) rows.push({ ...one, zstdBytes: await zstdBytes(machine, one.path) })
  return rows
}

/** Prints what each path took, and all together. */
export function printTable(t: TestContext, rows: readonly Row[]): void {
  const lines = rows.map(({ path, zstdBytes, narWireBytes, toldWireBytes, sources }) => [
    nameOfPath(path.path),
    String(path.narSize),
    String(zstdBytes),
    String(narWireBytes),
    String(toldWireBytes),
    [...sources].map(([id, bytes]) => `${kindOf(id)} ${bytes}`).join(', '),
  ])
  const sums = [
    'all',
    ...[
      sumOf(rows, ({ path }) => path.narSize),
      sumOf(rows, (row) => row.zstdBytes),
      sumOf(rows, (row) => row.narWireBytes),
      sumOf(rows, (row) => row.toldWireBytes),
    ].map(String),
    '',
  ]
  const table = [HEADER, ...lines, sums]
  const widths = HEADER.map((_, column) => Math.max(...table.map((line) => line[column]?.length ?? 0)))
  for (const line of table) {
    const cells = line.map((cell, column) => {
      const width = widths[column] ?? 0
      return column === 0 || column === line.length - 1 ? cell.padEnd(width) : cell.padStart(width)
    })
    t.diagnostic(cells.join('  ').trimEnd())
  }
}

export function sumOf<T>(items: readonly T[], value: (item: T) => number): number {
  return items.reduce((sum, item) => sum + value(item), 0)
}

/** Ids of upstreams and neighbours have addresses in them. */
function kindOf(id: string): string {
  return /^(?:upstream|neighbour):.*\/nar$/.test(id)
    ? `${id.split(':', 1).join('')} NAR`
    : id.split(':', 1).join('')
}
