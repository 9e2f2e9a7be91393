import type { Stats } from 'node:fs'

/** Which files some bytes were read from, and when those last changed: two reads with one mark read the same contents. */
export interface Stamp {
  readonly mark: string
  /** The latest change of any of the files (ctime, ms): whoever may write to a file cannot set it back. */
  readonly changedMs: number
}

export interface StampBuilder {
  /** Of a file that bytes were read from, looked at after the last of them. */
  add(stats: Stats): void
  finish(): Stamp
}

const FNV_OFFSET = 0x811c9dc5
const FNV_PRIME = 0x01000193

/**
 * Folded into one number and a count, since a leaf may come from thousands of files.
 *
 * @param between stands for the bytes that came from no file
 */
export function createStamp(between = 0): StampBuilder {
  let files = 0
  let fold = Math.imul(FNV_OFFSET ^ between, FNV_PRIME)
  let changedMs = 0
  const mix = (value: number): void => {
    // Both halves: inodes and µs of a time do not fit into 32 bits.
    fold = Math.imul(fold ^ (value | 0), FNV_PRIME)
    fold = Math.imul(fold ^ ((value / 0x1_0000_0000) | 0), FNV_PRIME)
  }
  return {
    add({ dev, ino, size, ctimeMs }) {
      files += 1
      mix(dev)
      mix(ino)
      mix(size)
      mix(ctimeMs * 1024)
      changedMs = Math.max(changedMs, ctimeMs)
    },
    finish: () => ({ mark: `${files} ${fold} ${changedMs}`, changedMs }),
  }
}
