/** What a server can do with one request, whatever the file. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { gzipSync } from 'node:zlib'

export interface Exchange {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  /** What a healthy server would send. */
  readonly body: Buffer
  /** Another file that is as good in itself. */
  readonly other: Buffer
  /** The how manieth request for this file it is, from 1. */
  readonly count: number
}

export type Deed = (exchange: Exchange) => void

const HTML = '<!doctype html>\n<html><body>Welcome to the hotel. Please log in.</body></html>\n'

/** As a file server does it, ranges and all. */
export const pass: Deed = ({ request, response, body }) => {
  const from = rangeStart(request)
  if (from === undefined || from >= body.length) {
    response.writeHead(200, { 'Content-Length': body.length, 'Accept-Ranges': 'bytes' }).end(body)
  } else partial(response, body, from)
}

export function status(code: number, headers: Record<string, string> = {}): Deed {
  return ({ response }) => void response.writeHead(code, headers).end()
}

/** Another body than the right one, complete in itself. */
export function instead(
  body: (exchange: Exchange) => string | Uint8Array,
  headers: Record<string, string> = {},
): Deed {
  return (exchange) => {
    const bytes = Buffer.from(body(exchange) as string)
    exchange.response.writeHead(200, { 'Content-Length': bytes.length, ...headers }).end(bytes)
  }
}

export function text(edit: (text: string, exchange: Exchange) => string): Deed {
  return instead((exchange) => edit(exchange.body.toString(), exchange))
}

export const html = instead(() => HTML, { 'Content-Type': 'text/html' })

/** The first time only. */
export function once(deed: Deed, later: Deed = pass): Deed {
  return (exchange) => (exchange.count === 1 ? deed : later)(exchange)
}

export const redirect: Deed = (exchange) => {
  const { request, response } = exchange
  const url = new URL(request.url ?? '/', 'http://localhost')
  if (url.searchParams.has('again')) return pass(exchange)
  url.searchParams.set('again', '')
  response.writeHead(302, { Location: url.pathname + url.search }).end()
}

export function late(ms: number): Deed {
  return (exchange) => {
    const timer = setTimeout(() => pass(exchange), ms)
    exchange.response.on('close', () => clearTimeout(timer))
  }
}

/** Not even a head. */
export const never: Deed = () => {}

export const chunked: Deed = ({ response, body }) => {
  response.writeHead(200)
  response.write(body.subarray(0, body.length >> 1))
  response.end(body.subarray(body.length >> 1))
}

/** The head of the whole, half of the body, then nothing. */
export const stallHalfWay: Deed = ({ response, body }) => {
  response.writeHead(200, { 'Content-Length': body.length }).write(body.subarray(0, body.length >> 1))
}

/** The head of the whole, half of the body, then the connection is closed. */
export function cutHalfWay(headers: Record<string, string | number> = {}): Deed {
  return ({ response, body }) => {
    response.writeHead(200, headers).write(body.subarray(0, body.length >> 1), () => response.destroy())
  }
}

export const cut: Deed = (exchange) => cutHalfWay({ 'Content-Length': exchange.body.length })(exchange)
export const cutResumable: Deed = (exchange) =>
  cutHalfWay({ 'Content-Length': exchange.body.length, 'Accept-Ranges': 'bytes' })(exchange)

/** Requests with a Range; others are passed on. */
export function ofRanges(deed: (exchange: Exchange, from: number) => void): Deed {
  return (exchange) => {
    const from = rangeStart(exchange.request)
    if (from === undefined) pass(exchange)
    else deed(exchange, from)
  }
}

export function partial(response: ServerResponse, body: Buffer, from: number): void {
  response.writeHead(206, {
    'Content-Length': body.length - from,
    'Content-Range': `bytes ${from}-${body.length - 1}/${body.length}`,
    'Accept-Ranges': 'bytes',
  })
  response.end(body.subarray(from))
}

export const drip: Deed = ({ response, body }) => {
  response.writeHead(200, { 'Content-Length': body.length })
  let sent = 0
  const timer = setInterval(() => response.write(body.subarray(sent, ++sent)), 100)
  response.on('close', () => clearInterval(timer))
}

export const gzipped: Deed = instead(({ body }) => gzipSync(body), { 'Content-Encoding': 'gzip' })

export const flipped: Deed = instead(({ body }) => {
  const bytes = Buffer.from(body)
  bytes[bytes.length >> 1]! ^= 1
  return bytes
})

function rangeStart(request: IncomingMessage): number | undefined {
  const [, from] = /^bytes=([0-9]+)-$/.exec(request.headers.range ?? '') ?? []
  return from === undefined ? undefined : Number(from)
}
