/** A stranger with a plain Helia: asks one peer for blocks by bitswap, and tells which of them it got. */
import { dialByPlainHelia } from '../../../bench/kit/plain-helia.ts'
import { parseCid } from '../../../src/dag/cid.ts'

const { address, cids } = JSON.parse(process.argv[2] ?? '{}') as { address: string; cids: string[] }
const PATIENCE_MS = 5_000
const helia = await dialByPlainHelia(address)

async function have(text: string): Promise<boolean> {
  const cid = parseCid(text)
  const signal = AbortSignal.timeout(PATIENCE_MS)
  try {
    const session = helia.session(cid)
    for await (const _ of session.get(cid, { signal })) return true
  } catch {
    // Not told, or in time.
  }
  return false
}

const had = await Promise.all(cids.map(have))
process.stdout.write(JSON.stringify(had))
process.exit(0)
