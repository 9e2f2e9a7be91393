/** What a route decided, as data; `respond.ts` sends it. */
import type { ReadOptions } from '../source.ts'

export type Headers = Readonly<Record<string, string>>

/** Bytes that come while they are sent. */
export interface StreamedBody {
  /** Exact, and guarded; `undefined` sends chunks. */
  readonly length: number | undefined
  /** Called for a GET only. May throw: the head has not gone out yet. */
  open(options: ReadOptions): Promise<AsyncIterable<Uint8Array>>
  /** Headers that are known only now: asked once, after `open`. A HEAD goes without (RFC 9110, 9.3.2). */
  headers?(): Headers
}

export interface Answer {
  readonly status: number
  /** Without Content-Length, which comes from the body. */
  readonly headers: Headers
  readonly body: string | Uint8Array | StreamedBody
  /** Called when the bytes of `body` have left this process, or will not; without a socket it never is. */
  readonly sent?: () => void
}

export interface TextAnswer extends Answer {
  readonly body: string
}

export function isStreamed(body: Answer['body']): body is StreamedBody {
  return typeof body !== 'string' && !(body instanceof Uint8Array)
}

/** A phrase for people. Not stored by anyone: what is missing now may be there in a minute. */
export function refusal(status: number, phrase: string, headers: Headers = {}): TextAnswer {
  return {
    status,
    headers: {
      'Content-Type': 'text/plain; charset=utf-8',
      'X-Content-Type-Options': 'nosniff',
      'Cache-Control': 'no-store',
      ...headers,
    },
    body: `${phrase}\n`,
  }
}

/** A file that nobody signed: kept by no cache, as there is nothing to judge an old one by. */
export function passedOn(contentType: string, body: string | Uint8Array): Answer {
  return {
    status: 200,
    headers: {
      'Content-Type': contentType,
      'X-Content-Type-Options': 'nosniff',
      'Cache-Control': 'no-store',
    },
    body,
  }
}

export function notFound(): TextAnswer {
  return refusal(404, 'not found')
}

/** Length without bytes: HEAD does not look at the disk. */
export function bodyOfHead(length: number | undefined): StreamedBody {
  return { length, open: () => Promise.reject(new Error('a HEAD has no body')) }
}
