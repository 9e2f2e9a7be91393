import type { WireCount } from '../operations/wire-count.ts'
import type { LentBlock } from '../spool/local-blocks.ts'
import { bodyOfHead, refusal } from './answer.ts'
import type { Answer, Headers } from './answer.ts'
import { etagListed, formatContentRange, selectBytes } from './selection.ts'
import type { SelectionRequest } from './selection.ts'

/** A block for `format=raw`. */
export interface RawBlock {
  /** Its CID as in the URL. */
  readonly text: string
  readonly size: number
  readonly lend: () => Promise<LentBlock>
  /** Of a leaf that its asker would rather have coded. */
  readonly coding: BlockCoding | undefined
}

export interface BlockCoding {
  /** The coded form, when there is no need to make it. */
  ready(): Uint8Array | undefined
  /** Undefined when the block had better go out as it is. */
  code(bytes: Uint8Array): Promise<Uint8Array | undefined>
}

/** As it is, or in zstd when that is asked for, pays, and all of it is wanted: a range is one of the raw form, always. */
export async function rawAnswer(
  block: RawBlock,
  request: SelectionRequest,
  { found, given }: { found: Headers; given: WireCount },
): Promise<Answer> {
  const { text, size, lend } = block
  const etag = `"${text}.raw"`
  const headers = {
    ...found,
    'Content-Type': 'application/vnd.ipld.raw',
    'Accept-Ranges': 'bytes',
    ETag: etag,
  }
  const selection = selectBytes(request, { size, etag })
  switch (selection.status) {
    case 304:
      return { status: 304, headers, body: '' }
    case 416:
      return refusal(416, 'no such bytes', { 'Content-Range': `bytes */${size}` })
    case 206: {
      const { range } = selection
      const partial = { ...headers, 'Content-Range': formatContentRange(range, size) }
      const lent = await lend()
      given.add(range.end - range.start, range.end - range.start)
      return {
        status: 206,
        headers: partial,
        body: lent.bytes.subarray(range.start, range.end),
        sent: () => lent.release(),
      }
    }
    case 200:
      return wholeAnswer(block, request, { headers, given })
    default:
      return selection satisfies never
  }
}

async function wholeAnswer(
  { text, size, lend, coding }: RawBlock,
  request: SelectionRequest,
  { headers, given }: { headers: Headers; given: WireCount },
): Promise<Answer> {
  // Another form has another validator (RFC 9110 8.8.3).
  const codedTag = `"${text}.raw.zst"`
  const codedHead = { status: 200, headers: { ...headers, ETag: codedTag, 'Content-Encoding': 'zstd' } }
  if (coding !== undefined && etagListed(request.header('if-none-match'), codedTag)) {
    return { ...codedHead, status: 304, body: '' }
  }
  const ready = coding?.ready()
  if (request.method === 'HEAD') {
    // How large the coded form is, only making it tells.
    return ready === undefined
      ? { status: 200, headers, body: bodyOfHead(size) }
      : { ...codedHead, body: bodyOfHead(ready.length) }
  }
  if (ready !== undefined) {
    given.add(size, ready.length)
    return { ...codedHead, body: ready }
  }
  const lent = await lend()
  const coded = await coding?.code(lent.bytes)
  if (coded !== undefined) {
    lent.release()
    given.add(size, coded.length)
    return { ...codedHead, body: coded }
  }
  given.add(size, size)
  return { status: 200, headers, body: lent.bytes, sent: () => lent.release() }
}
