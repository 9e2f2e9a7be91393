import type { Connection, Libp2p, Stream } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import {
  HELLO_DEADLINE_MS,
  HELLO_MAX_BYTES,
  HELLO_STREAMS_COUNT,
  HELLOS_PER_MINUTE_COUNT,
} from '../limits.ts'
import { messageOf } from '../log.ts'
import type { Log } from '../log.ts'
import type { CallOptions } from '../source.ts'
import type { Hello } from './hello.ts'
import { formatHello, HELLO_PROTOCOL, HelloFormatError, parseHello } from './hello.ts'
import { peerIdIn } from './peer-address.ts'
import { createRate } from './rate.ts'

/** A narswarm that proved its peer id and said hello. */
export interface Met {
  readonly peerId: string
  /** IP address or name that it was reached at, or came from. */
  readonly host: string
  readonly hello: Hello
}

export interface Greeter {
  /** @throws when it cannot be reached at `address`, is another, or says no hello, within HELLO_DEADLINE_MS */
  greet(address: string, options: CallOptions): Promise<Met>
}

/**
 * @param deps.own what we say; while it is undefined nobody is answered
 * @param deps.mayAsk whether who comes from this address is answered
 * @param deps.onMet told of those who greeted us
 */
export async function createGreeter(deps: {
  readonly libp2p: Libp2p
  readonly own: () => Hello | undefined
  readonly mayAsk: (host: string) => boolean
  readonly onMet: (met: Met) => void
  readonly stopwatch: () => number
  readonly log: Log
}): Promise<Greeter> {
  const { libp2p, own, mayAsk, onMet, stopwatch, log } = deps
  const hellos = createRate(
    { perSecond: HELLOS_PER_MINUTE_COUNT / 60, burst: HELLOS_PER_MINUTE_COUNT },
    stopwatch,
  )

  const answer = async (stream: Stream, connection: Connection): Promise<void> => {
    const host = hostOf(connection)
    const hello = own()
    try {
      if (hello === undefined || host === undefined || !mayAsk(host) || hellos.take(1, 0) === undefined) {
        throw new Error('no hello for this peer now')
      }
      const met = await exchange(stream, hello, AbortSignal.timeout(HELLO_DEADLINE_MS))
      onMet({ peerId: connection.remotePeer.toString(), host, hello: met })
    } catch (error) {
      log.debug({ peer: connection.remotePeer.toString(), host }, `hello not answered: ${messageOf(error)}`)
      stream.abort(error instanceof Error ? error : new Error(String(error)))
    }
  }

  await libp2p.handle(HELLO_PROTOCOL, answer, {
    maxInboundStreams: HELLO_STREAMS_COUNT,
    maxOutboundStreams: HELLO_STREAMS_COUNT,
  })

  return {
    async greet(address, options) {
      const hello = own()
      if (hello === undefined) throw new Error('we have nothing to say yet')
      const signal = AbortSignal.any([options.signal, AbortSignal.timeout(HELLO_DEADLINE_MS)])
      const target = multiaddr(address)
      const peerId = peerIdIn(address)
      const open = libp2p
        .getConnections()
        .find(
          (one) =>
            one.remotePeer.toString() === peerId &&
            one.status === 'open' &&
            hostOf(one) === target.getComponents()[0]?.value,
        )
      // One to where it was before it moved may seem open for long.
      const connection = open ?? (await libp2p.dial(target, { signal, force: true }))
      const host = hostOf(connection)
      if (host === undefined) throw new Error(`no host in ${connection.remoteAddr.toString()}`)
      let stream: Stream | undefined
      try {
        stream = await connection.newStream(HELLO_PROTOCOL, { signal })
        return {
          peerId: connection.remotePeer.toString(),
          host,
          hello: await exchange(stream, hello, signal),
        }
      } catch (cause) {
        const error = cause instanceof Error ? cause : new Error(String(cause))
        stream?.abort(error)
        // Half open, after the peer's crash or sleep: the next greeting is to find another.
        if (connection === open && signal.aborted) connection.abort(error)
        throw error
      }
    },
  }
}

/** Says ours and reads theirs. */
async function exchange(stream: Stream, own: Hello, signal: AbortSignal): Promise<Hello> {
  const { promise: aborted, reject } = Promise.withResolvers<never>()
  const onAbort = (): void => reject(signal.reason as Error)
  signal.addEventListener('abort', onAbort, { once: true })
  // When nobody waits for it any more.
  aborted.catch(() => {})
  try {
    signal.throwIfAborted()
    stream.send(formatHello(own))
    const hello = await Promise.race([readHello(stream), aborted])
    await stream.close({ signal })
    return hello
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}

const NEWLINE = 10

async function readHello(stream: Stream): Promise<Hello> {
  const parts: Uint8Array[] = []
  let size = 0
  for await (const chunk of stream) {
    const part = chunk.subarray()
    parts.push(part)
    size += part.byteLength
    if (size > HELLO_MAX_BYTES || part.at(-1) === NEWLINE) break
  }
  if (size === 0) throw new HelloFormatError('expected a hello, got nothing')
  return parseHello(Buffer.concat(parts))
}

/** Of the other end; undefined for one that no URL can name, an IPv6 address with a zone. */
function hostOf(connection: Connection): string | undefined {
  const [first] = connection.remoteAddr.getComponents()
  const isHost = first !== undefined && ['ip4', 'ip6', 'dns', 'dns4', 'dns6'].includes(first.name)
  return isHost && first.value?.toLowerCase().startsWith('fe80:') !== true ? first.value : undefined
}
