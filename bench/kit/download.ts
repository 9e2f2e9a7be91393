/**
 * HTTP downloads by one socket each, into one buffer each: nothing that a libcurl would not do, so that the server is
 * measured and not the client.
 */
import { createHash } from 'node:crypto'
import { closeSync, openSync, writeSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'

const BUFFER_BYTES = 256 * 1024
const HEAD_END = Buffer.from('\r\n\r\n')

export interface Job {
  readonly urls: readonly string[]
  /** Under way at once. */
  readonly parallel: number
  /** sha256 of each, as Nix does. */
  readonly hash: boolean
  /** Each is kept here. */
  readonly dir?: string
}

interface Download {
  readonly status: number
  readonly bytes: number
  /** From before the connection was made. */
  readonly firstByteMs: number
  readonly ms: number
  /** Base 16. */
  readonly sha256?: string
}

export interface JobResult {
  readonly ms: number
  readonly downloads: readonly Download[]
}

export async function runJob(job: Job): Promise<JobResult> {
  const downloads: Download[] = []
  const begun = performance.now()
  let next = 0
  const worker = async (): Promise<void> => {
    for (let at = next++; at < job.urls.length; at = next++) {
      downloads[at] = await download(job.urls[at] ?? '', job, at)
    }
  }
  await Promise.all(Array.from({ length: job.parallel }, worker))
  return { ms: performance.now() - begun, downloads }
}

function download(url: string, { hash, dir }: Job, at: number): Promise<Download> {
  const { hostname, port, pathname } = new URL(url)
  const digest = hash ? createHash('sha256') : undefined
  const file = dir === undefined ? undefined : openSync(join(dir, String(at)), 'wx')
  const begun = performance.now()
  let head = Buffer.alloc(0)
  let status = 0
  let length = 0
  let bytes = 0
  let firstByteMs = 0
  const body = (piece: Uint8Array): void => {
    if (bytes === 0 && piece.length > 0) firstByteMs = performance.now() - begun
    bytes += piece.length
    digest?.update(piece)
    if (file !== undefined) writeSync(file, piece)
  }
  return new Promise<Download>((resolve, reject) => {
    const take = (count: number, buffer: Uint8Array): boolean => {
      const piece = buffer.subarray(0, count)
      if (status !== 0) {
        body(piece)
      } else {
        head = Buffer.concat([head, piece])
        const end = head.indexOf(HEAD_END)
        if (end < 0) return true
        const text = head.subarray(0, end).toString('latin1')
        status = Number(text.slice(9, 12))
        length = Number(/^content-length: *([0-9]+)/im.exec(text)?.[1])
        if (Number.isNaN(length)) reject(new Error(`${url}: no Content-Length: ${text}`))
        body(head.subarray(end + HEAD_END.length))
      }
      if (bytes >= length) socket.end()
      return true
    }
    const socket = connect({
      host: hostname,
      port: Number(port),
      onread: { buffer: Buffer.allocUnsafe(BUFFER_BYTES), callback: take },
    })
    socket.setNoDelay()
    socket.write(`GET ${pathname} HTTP/1.1\r\nHost: ${hostname}:${port}\r\nConnection: close\r\n\r\n`)
    socket.once('error', reject)
    socket.once('close', () => {
      const ms = performance.now() - begun
      if (file !== undefined) closeSync(file)
      if (bytes !== length) {
        reject(new Error(`${url}: ${bytes} of ${length} bytes came, status ${status}`))
        return
      }
      const sha256 = digest?.digest('hex')
      resolve({ status, bytes, firstByteMs, ms, ...(sha256 === undefined ? {} : { sha256 }) })
    })
  })
}
