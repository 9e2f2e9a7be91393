import type { WireCount } from '../operations/wire-count.ts'
import type { LentBlock } from '../spool/local-blocks.ts'
import { bodyOfHead, refusal } from './answer.ts'
import type { Answer, Headers } from './answer.ts'
import type { CodedLeaf } from './leaf-coder.ts'
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
  /** CID of the block from which the difference may be told. */
  readonly dictionary: string | undefined
  /** The coded form, when there is no need to make it. */
  ready(): CodedLeaf | undefined
  /** Undefined when the block had better go out as it is. */
  code(bytes: Uint8Array): Promise<CodedLeaf | undefined>
}

/** As it is, or coded when that is asked for, pays, and all of it is wanted: a range is one of the raw form, always. */
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
  const tagOf = (form: CodedLeaf['coding']): string =>
    form === 'zstd' ? `"${text}.raw.zst"` : `"${text}.raw.dcz.${coding?.dictionary ?? ''}"`
  const headOf = (form: CodedLeaf['coding']): { status: number; headers: Headers } => ({
    status: 200,
    headers: { ...headers, ETag: tagOf(form), 'Content-Encoding': form },
  })
  const send = (leaf: CodedLeaf): Answer => {
    given.add(size, leaf.bytes.length, leaf.coding === 'dcz')
    return { ...headOf(leaf.coding), body: leaf.bytes }
  }
  if (coding !== undefined) {
    const forms = coding.dictionary === undefined ? (['zstd'] as const) : (['dcz', 'zstd'] as const)
    const had = forms.find((form) => etagListed(request.header('if-none-match'), tagOf(form)))
    if (had !== undefined) return { ...headOf(had), status: 304, body: '' }
  }
  const ready = coding?.ready()
  if (request.method === 'HEAD') {
    // How large the coded form is, only making it tells.
    return ready === undefined
      ? { status: 200, headers, body: bodyOfHead(size) }
      : { ...headOf(ready.coding), body: bodyOfHead(ready.bytes.length) }
  }
  if (ready !== undefined) return send(ready)
  const lent = await lend()
  const coded = await coding?.code(lent.bytes)
  if (coded !== undefined) {
    lent.release()
    return send(coded)
  }
  given.add(size, size)
  return { status: 200, headers, body: lent.bytes, sent: () => lent.release() }
}
