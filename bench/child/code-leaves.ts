/** Leaves of a file in zstd, and as the difference from older ones: by the coder that peers are answered with, in turn. */
import { readFile } from 'node:fs/promises'
import { rawCid, sha256 } from '../../src/dag/cid.ts'
import { LEAF_BYTES } from '../../src/dag/profile.ts'
import { createLeafCoder } from '../../src/http/leaf-coder.ts'

const { file, olderFile, round } = JSON.parse(process.argv[2] ?? '{}') as {
  file: string
  olderFile: string
  /** Odd ones begin with the differences. */
  round: number
}
const signal = AbortSignal.timeout(600_000)
const [newer, older] = await Promise.all([readFile(file), readFile(olderFile)])
const coder = createLeafCoder()

const told = { plainMs: 0, differenceMs: 0, bytes: 0, plainBytes: 0, differenceBytes: 0 }
for (let at = 0; at + LEAF_BYTES <= newer.length; at += LEAF_BYTES) {
  const bytes = newer.subarray(at, at + LEAF_BYTES)
  const old = older.subarray(at, Math.min(older.length, at + LEAF_BYTES))
  const dictionary = {
    cid: rawCid(sha256(old)),
    lend: () => Promise.resolve({ bytes: old, release: () => {} }),
  }
  // A link of 10 Mbit/s: any coder is quicker.
  const leaf = { bytes, peer: 'a', linkBytesPerS: 1_250_000 }
  const plain = async (): Promise<void> => {
    const begun = performance.now()
    const coded = await coder.code({ ...leaf, cid: `plain ${at}` }, { signal })
    told.plainMs += performance.now() - begun
    told.plainBytes += coded?.bytes.length ?? bytes.length
  }
  const difference = async (): Promise<void> => {
    const begun = performance.now()
    const coded = await coder.code({ ...leaf, cid: `difference ${at}`, dictionary }, { signal })
    told.differenceMs += performance.now() - begun
    told.differenceBytes += coded?.bytes.length ?? bytes.length
  }
  const inTurn = round % 2 === 0 ? [plain, difference] : [difference, plain]
  for (const one of inTurn) await one()
  told.bytes += bytes.length
}
process.stdout.write(`${JSON.stringify(told)}\n`)
