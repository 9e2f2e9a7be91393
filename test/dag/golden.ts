import { readFileSync } from 'node:fs'
import { vectorsDir } from '../kit/vectors.ts'

export type Content = 'zero' | 'mod251'

export interface Golden {
  readonly content: Content
  readonly size: number
  /** Hex. */
  readonly sha256: string
  readonly cid: string
}

/** What Kubo 0.42.0 made of each content (vectors/kubo/cid-golden.tsv); nothing where the vectors are absent. */
export function goldenCids(): Golden[] {
  const dir = vectorsDir()
  if (dir === undefined) return []
  return readFileSync(`${dir}kubo/cid-golden.tsv`, 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => {
      const [content = '', size = '', sha256 = '', cid = ''] = line.split('\t')
      return { content: content as Content, size: Number(size), sha256, cid }
    })
}

const MOD = 251
const STRIDE = 1_048_576

/** Any leaf of the contents, as a view of one small pattern: byte number i of mod251 is i mod 251. */
export function createContents(): (content: Content, offset: number, size: number) => Uint8Array {
  const zero = new Uint8Array(STRIDE)
  const mod251 = Uint8Array.from({ length: STRIDE + MOD }, (_, i) => i % MOD)
  return (content, offset, size) => {
    const start = content === 'zero' ? 0 : offset % MOD
    return (content === 'zero' ? zero : mod251).subarray(start, start + size)
  }
}
