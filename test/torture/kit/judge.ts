/**
 * What Nix may be told. Allowed is: the true bytes, whole; a connection that is cut before its end; a 404; nobody at
 * home while nobody is. Everything else is a violation, and named.
 */
import { HELD_BACK_BYTES } from '../../../src/limits.ts'
import { parseNarInfo } from '../../../src/nix/narinfo.ts'
import { fingerprint } from '../../../src/nix/fingerprint.ts'
import type { PublicKey } from '../../../src/nix/key.ts'
import { verify } from '../../../src/nix/signature.ts'
import { STORE_DIR } from './world.ts'
import type { TrueNar, TruePath } from './world.ts'

/** One request and what came of it. */
export interface Exchange {
  readonly method: 'GET' | 'HEAD'
  readonly target: string
  /** The Range header's bytes, end inclusive; an end of undefined is the NAR's. */
  readonly range?: { readonly first: number; readonly last?: number }
  /** 0 when there was no answer. */
  status: number
  headers: Readonly<Record<string, string | undefined>>
  /** Of the body, as far as it came. */
  body: Buffer
  /** Bytes of the body, which of a NAR are compared as they come and not kept. */
  received: number
  /** First byte of the body that is not true. */
  wrongAt?: number
  /** The answer ended as it should by HTTP's rules. */
  complete: boolean
  /** The client itself went away. */
  aborted: boolean
  /** Milliseconds, without those in which the server was stopped: to the head, and the longest silence after it. */
  headMs: number
  silenceMs: number
  /** The server was up all the time, and nobody had told it to end. */
  undisturbed: boolean
}

export type Subject =
  | { readonly kind: 'narinfo'; readonly path: TruePath | undefined }
  | { readonly kind: 'nar'; readonly nar: TrueNar | undefined }
  /** Not of the protocol: anything but a fault of the server's is right. */
  | { readonly kind: 'nonsense' }

export type Outcome = 'right' | 'cut' | 'wrong, cut' | 'miss' | 'refused' | 'left' | 'empty'

export type Verdict = { readonly outcome: Outcome } | { readonly violation: string }

/** Deadline of a look-up, and of a NAR's first byte, in limits.ts; with room for a machine that does other things too. */
export interface Bounds {
  readonly narInfoMs: number
  readonly headMs: number
  readonly silenceMs: number
}

export function judge(exchange: Exchange, subject: Subject, key: PublicKey, bounds: Bounds): Verdict {
  const { status, headers } = exchange
  if (status === 0) {
    if (exchange.aborted) return { outcome: 'left' }
    return exchange.undisturbed ? { violation: 'no answer although it was up' } : { outcome: 'refused' }
  }
  if (status >= 500 || status === 429) return { violation: `status ${status}` }
  const headMs = subject.kind === 'narinfo' ? bounds.narInfoMs : bounds.headMs
  if (exchange.headMs > headMs) return { violation: `the head took ${Math.round(exchange.headMs)} ms` }
  if (exchange.silenceMs > bounds.silenceMs && !exchange.aborted) {
    return { violation: `${Math.round(exchange.silenceMs)} ms without a byte` }
  }
  if (headers['content-encoding'] !== undefined) return { violation: 'a Content-Encoding' }
  if (subject.kind === 'nonsense') return { outcome: status === 404 ? 'miss' : 'empty' }
  if (status === 404) return { outcome: 'miss' }
  const verdict =
    subject.kind === 'narinfo' ? judgeNarInfo(exchange, subject.path, key) : judgeNar(exchange, subject.nar)
  return verdict
}

function judgeNarInfo(exchange: Exchange, path: TruePath | undefined, key: PublicKey): Verdict {
  if (exchange.status !== 200) return { violation: `status ${exchange.status} for a narinfo` }
  if (path === undefined) return { violation: 'a narinfo of a path that nobody has' }
  if (exchange.method === 'HEAD') return { outcome: 'empty' }
  if (!exchange.complete) return { outcome: exchange.aborted ? 'left' : 'cut' }
  const fault = narInfoFault(exchange.body.toString(), path, key)
  return fault === undefined ? { outcome: 'right' } : { violation: `a narinfo with ${fault}` }
}

function narInfoFault(text: string, path: TruePath, key: PublicKey): string | undefined {
  let info: ReturnType<typeof parseNarInfo>
  try {
    info = parseNarInfo(text, STORE_DIR)
  } catch (error) {
    return `text that is none: ${String(error)}`
  }
  const { narHash, bytes } = path.nar
  const signed = fingerprint(info, STORE_DIR)
  if (!info.signatures.some((one) => verify(key, signed, one))) return 'no signature by the trusted key'
  const expected = {
    storePath: path.storePath,
    url: `nar/${narHash}.nar`,
    compression: 'none',
    fileHash: narHash,
    fileSize: bytes.length,
    narHash,
    narSize: bytes.length,
    references: path.references.toSorted().join(' '),
  }
  const found: Record<string, unknown> = { ...info, references: info.references.toSorted().join(' ') }
  for (const [name, value] of Object.entries(expected)) {
    if (found[name] !== value) return `${name} ${String(found[name])}, expected ${value}`
  }
  return undefined
}

function judgeNar(exchange: Exchange, nar: TrueNar | undefined): Verdict {
  const { status, range, headers } = exchange
  if (nar === undefined) return { violation: 'a NAR that nobody has' }
  const size = nar.bytes.length
  const from = status === 206 ? (range?.first ?? 0) : 0
  const to = status === 206 ? Math.min((range?.last ?? size - 1) + 1, size) : size
  switch (status) {
    case 416:
      return range !== undefined && range.first >= size
        ? { outcome: 'empty' }
        : { violation: '416 for a range that there is' }
    case 200:
      break
    case 206: {
      if (range === undefined) return { violation: '206 without a Range' }
      const expected = `bytes ${from}-${to - 1}/${size}`
      if (headers['content-range'] !== expected) {
        return { violation: `Content-Range ${headers['content-range']}, expected ${expected}` }
      }
      break
    }
    default:
      return { violation: `status ${status} for a NAR` }
  }
  if (headers['content-length'] !== String(to - from)) {
    return { violation: `Content-Length ${headers['content-length']}, expected ${to - from}` }
  }
  if (headers['etag'] !== `"${nar.narHash}"`) return { violation: `ETag ${headers['etag']}` }
  if (exchange.method === 'HEAD') return { outcome: 'empty' }
  if (exchange.wrongAt !== undefined) return judgeWrong(exchange, exchange.wrongAt, to - from)
  if (exchange.complete) {
    return exchange.received === to - from
      ? { outcome: 'right' }
      : { violation: `a complete body of ${exchange.received} bytes, expected ${to - from}` }
  }
  return { outcome: exchange.aborted ? 'left' : 'cut' }
}

/**
 * Bytes of an upstream whose DAG nobody told go out before their NarHash is proved, all but the last ones: a wrong one
 * among them must be followed by a cut that no client takes for an end (P1).
 */
function judgeWrong({ complete, received }: Exchange, wrongAt: number, length: number): Verdict {
  if (!complete && received <= length - HELD_BACK_BYTES) return { outcome: 'wrong, cut' }
  return {
    violation: `a wrong byte at ${wrongAt}, ${complete ? 'whole' : `cut after ${received} of ${length}`}`,
  }
}
