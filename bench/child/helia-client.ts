/** A plain Helia over TLS: a window of leaves asked of one session with one peer, as fast as it goes. */
import { parseCid } from '../../src/dag/cid.ts'
import { LEAF_WINDOW_COUNT } from '../../src/limits.ts'
import { dialByPlainHelia } from '../kit/plain-helia.ts'

const { address, cids } = JSON.parse(process.argv[2] ?? '{}') as { address: string; cids: string[] }
const helia = await dialByPlainHelia(address)
const [first = ''] = cids
const session = helia.session(parseCid(first))
const signal = AbortSignal.timeout(300_000)
const begun = performance.now()
let bytes = 0
let next = 0
const worker = async (): Promise<void> => {
  while (next < cids.length) {
    const cid = parseCid(cids[next++] ?? '')
    for await (const piece of session.get(cid, { signal })) bytes += piece.length
  }
}
await Promise.all(Array.from({ length: LEAF_WINDOW_COUNT }, worker))
process.stdout.write(`${JSON.stringify({ ms: performance.now() - begun, bytes })}\n`)
process.exit(0)
