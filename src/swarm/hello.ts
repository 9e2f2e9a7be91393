/**
 * What two narswarms say to each other over a connection whose TLS has proved their peer ids: each sends one line of JSON and
 * ends its side. The asker begins; who is asked answers, were it that the asker said nothing that makes sense.
 *
 *     {"version":1,"http":6278,"storeDir":"/nix/store"}
 *
 * `http` is the port of the peer listener, 0 when there is none. Its host is not told: it is the other end of this connection.
 */
import { normalize } from 'node:path'
import { z } from 'zod'
import { HELLO_MAX_BYTES } from '../limits.ts'
import { quote } from '../nix/quote.ts'

export const HELLO_PROTOCOL = '/narswarm/hello/1.0.0'

export interface Hello {
  readonly version: 1
  readonly http: number
  readonly storeDir: string
}

/** The peer said something that is no hello. */
export class HelloFormatError extends Error {
  override readonly name = 'HelloFormatError'
}

/** Fields that a later narswarm adds are skipped. */
const schema = z.object({
  version: z.literal(1),
  http: z.int().min(0).max(65_535),
  storeDir: z
    .string()
    .max(255)
    .refine((text) => text.startsWith('/') && text === normalize(text) && !/[\p{Cc}\s]/u.test(text)),
})

export function formatHello({ version, http, storeDir }: Hello): Uint8Array {
  return Buffer.from(`${JSON.stringify({ version, http, storeDir })}\n`)
}

/** @throws HelloFormatError */
export function parseHello(bytes: Uint8Array): Hello {
  if (bytes.byteLength > HELLO_MAX_BYTES) {
    throw new HelloFormatError(`expected a hello of at most ${HELLO_MAX_BYTES} bytes, got more`)
  }
  let text = ''
  let value: unknown
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
    value = text.endsWith('\n') ? JSON.parse(text) : undefined
  } catch (cause) {
    throw new HelloFormatError(`expected a line of JSON, got ${quote(text)}`, { cause })
  }
  const parsed = schema.safeParse(value)
  if (!parsed.success) {
    throw new HelloFormatError(`expected version, http and storeDir in a line of JSON, got ${quote(text)}`, {
      cause: parsed.error,
    })
  }
  return parsed.data
}
