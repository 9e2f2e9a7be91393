/** How undici's connections read: into one large buffer of their own, where Node would make a new one of 64 KiB each time. */
import type { Socket } from 'node:net'
import { buildConnector } from 'undici'
import { RECEIVE_BUFFER_BYTES } from '../limits.ts'

/**
 * For dispatchers whose handlers copy what they are given before they return (`receive`): two buffers in turn, each filled
 * anew as soon as it was read out of the socket. TLS reads as ever: its records are 16 KiB, and come several at a time.
 */
export function createReceivingConnector(options: buildConnector.BuildOptions): buildConnector.connector {
  const connectTls = buildConnector(options)
  return (target, callback) => {
    if (target.protocol === 'https:') {
      connectTls(target, callback)
      return
    }
    let socket: Socket | undefined
    let latest: Uint8Array | undefined
    let spare: Uint8Array | undefined
    let latestBytes = 0
    const connect = buildConnector({
      ...options,
      onread: {
        // Node asks for the next buffer before anybody has looked at the one that it has just filled.
        buffer() {
          // More than that was put back, or nobody has come to it yet: then neither buffer is free.
          const isSpareFree = socket?.readableLength === latestBytes
          const next = (isSpareFree ? spare : undefined) ?? Buffer.allocUnsafeSlow(RECEIVE_BUFFER_BYTES)
          spare = latest
          latest = next
          return next
        },
        callback(bytes, buffer) {
          latestBytes = bytes
          return socket?.push(buffer.subarray(0, bytes)) ?? true
        },
      },
    })
    connect(target, (...result) => {
      socket = result[1] ?? undefined
      callback(...result)
    })
  }
}
