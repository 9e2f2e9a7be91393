/** The rows of client-matrix.tsv as behaviour of a cache below `/good/`. Without a fault a file is served as it is. */
import * as deeds from './deeds.ts'
import type { Deed } from './deeds.ts'
import { storeXz } from '../upstream/store-xz.ts'

export interface Fault {
  readonly cacheInfo?: Deed
  readonly narInfo?: Deed
  /** Of a NAR's file; of any block when a peer does it. */
  readonly nar?: Deed
}

/** The path of a cache's own URL, so that it is not alone on its host. */
export const CACHE_PATH = '/good/'

const { status, text } = deeds

/** Whole lines after what is there. */
const add = (...lines: string[]): Deed => text((whole) => whole + lines.map((line) => `${line}\n`).join(''))
const without = (name: string): Deed => text((whole) => whole.replace(new RegExp(`^${name}: .*\n`, 'm'), ''))
/** Another value for a field, made of the one that it has. */
const set = (name: string, value: (was: string, base: string) => string): Deed =>
  text((whole, { request }) => {
    const base = `http://${request.headers.host}${CACHE_PATH}`
    return whole.replace(new RegExp(`^(${name}: )(.*)$`, 'm'), (_, head: string, was: string) => {
      return head + value(was, base)
    })
  })
const instead = (whole: string): Deed => text(() => whole)

const CACHE_INFO_FAULTS: Readonly<Record<string, Deed>> = {
  i404: status(404),
  i403: status(403),
  i500: status(500),
  iwrong: set('StoreDir', () => '/other/store'),
  ibadprio: set('Priority', () => 'abc'),
  ihtml: deeds.html,
  inostore: without('StoreDir'),
  icrlf: text((whole) => whole.replaceAll('\n', '\r\n')),
}

const NARINFO_FAULTS: Readonly<Record<string, Deed>> = {
  ...Object.fromEntries(
    [204, 304, 400, 401, 403, 404, 408, 410, 429, 451, 500, 501, 502, 503, 504].map((code) => [
      `n${code}`,
      status(code),
    ]),
  ),
  n503once: deeds.once(status(503)),
  n503ra: status(503, { 'Retry-After': '3' }),
  nempty: instead(''),
  nhtml: deeds.html,
  nnonl: text((whole) => whole.slice(0, -1)),
  ncrlf: text((whole) => whole.replaceAll('\n', '\r\n')),
  nblank: add(''),
  nunknown: text((whole) => `Unknown: field\nProvenance: {"a":1}\n${whole}`),
  nbadsig: set('Sig', (was) => was.replace(/:./, (start) => (start === ':A' ? ':B' : ':A'))),
  nsigjunk: add('Sig: junk'),
  nsigb64: add('Sig: other-1:@@@@'),
  nsigshort: add('Sig: signer-1:AAAA'),
  nsigother: add('Sig: other-1:AAAA'),
  nsigempty: add('Sig: '),
  nnosig: without('Sig'),
  nnocomp: without('Compression'),
  ncompempty: set('Compression', () => ''),
  ncompgzip: set('Compression', () => 'gzip'),
  ncompunk: set('Compression', () => 'foo'),
  ncompnone: set('Compression', () => 'none'),
  nabs: set('URL', (was, base) => base + was),
  nslash: set('URL', (was) => CACHE_PATH + was),
  nquery: set('URL', (was) => `${was}?a=b&c=%2F`),
  ndotdot: set('URL', (was) => `..${CACHE_PATH}${was}`),
  nescape: set('URL', (was) => was.replace('/', '%2F')),
  nnofile: text((whole) => whole.replace(/^File(?:Hash|Size): .*\n/gm, '')),
  nwrongfh: set('FileHash', () => `sha256:${'0'.repeat(52)}`),
  nwrongfs: set('FileSize', (was) => String(Number(was) + 1)),
  nbadfs: set('FileSize', () => 'abc'),
  nfhbad: set('FileHash', () => 'sha256:zzz'),
  nsystem: add('System: x86_64-linux'),
  nunkdrv: set('Deriver', () => 'unknown-deriver'),
  nbaddrv: set('Deriver', () => 'foo'),
  nnosize: without('NarSize'),
  nsize0: set('NarSize', () => '0'),
  nwrongsize: set('NarSize', (was) => String(Number(was) + 8)),
  nduprefs: text((whole) => whole.replace(/^References: .*\n/m, '$&$&')),
  nrefsabs: set('References', (was) => `/nix/store/${was.replaceAll(' ', ' /nix/store/')}`),
  nrefsorder: set('References', (was) => was.split(' ').toReversed().join('  ')),
  nca: add(`CA: fixed:r:sha256:${'0'.repeat(52)}`),
  ncaempty: add('CA: '),
  notherpath: set('StorePath', (was) => `${was}-other`),
  nlower: text((whole) => whole.replace('StorePath:', 'storepath:')),
  nnospace: text((whole) => whole.replaceAll(': ', ':')),
  nreorder: text((whole) => `${whole.trimEnd().split('\n').toReversed().join('\n')}\n`),
  ngzip: deeds.gzipped,
  nidentity: deeds.instead(({ body }) => body, { 'Content-Encoding': 'identity' }),
  nxz: deeds.instead(({ body }) => storeXz(body), { 'Content-Encoding': 'xz' }),
  n302: deeds.redirect,
  nslow: deeds.late(1_500),
  nstall: deeds.never,
  nchunked: deeds.chunked,
  nctype: deeds.instead(({ body }) => body, { 'Content-Type': 'image/png' }),
}

/** Cut once; what comes then is for the client to ask for. */
const cutOnce = (onRange: Parameters<typeof deeds.ofRanges>[0]): Deed =>
  deeds.once(deeds.cutResumable, deeds.ofRanges(onRange))

const NAR_FAULTS: Readonly<Record<string, Deed>> = {
  ...Object.fromEntries(
    [400, 401, 403, 404, 410, 429, 500, 502, 503, 504].map((code) => [`r${code}`, status(code)]),
  ),
  r503once: deeds.once(status(503)),
  rtrunc: deeds.cut,
  rtruncrange: cutOnce(({ response, body }, from) => deeds.partial(response, body, from)),
  rtruncrange200: cutOnce(({ response, body }) =>
    response.writeHead(200, { 'Content-Length': body.length }).end(body),
  ),
  rtruncrange416: cutOnce(({ response, body }) =>
    response.writeHead(416, { 'Content-Range': `bytes */${body.length}` }).end(),
  ),
  rtruncrangewrong: cutOnce(({ response, body }, from) => deeds.partial(response, body, from >> 1)),
  rtruncchunk: deeds.cutHalfWay(),
  rchunked: deeds.chunked,
  rshort: deeds.instead(({ body }) => body.subarray(0, body.length >> 1)),
  rempty: deeds.instead(() => ''),
  rcorrupt: deeds.flipped,
  rotherbody: deeds.instead(({ other }) => other),
  rhtml: deeds.html,
  rextra: deeds.instead(({ body }) => Buffer.concat([body, Buffer.from('extra bytes')])),
  rgzip: deeds.gzipped,
  ridentity: deeds.instead(({ body }) => body, { 'Content-Encoding': 'identity' }),
  r302: deeds.redirect,
  rstall: deeds.stallHalfWay,
  rstallfirst: deeds.never,
  rdrip: deeds.drip,
}

export const FAULTS: ReadonlyMap<string, Fault> = new Map<string, Fault>([
  ...Object.entries(CACHE_INFO_FAULTS).map(([id, cacheInfo]) => [id, { cacheInfo }] as const),
  ...Object.entries(NARINFO_FAULTS).map(([id, narInfo]) => [id, { narInfo }] as const),
  ...Object.entries(NAR_FAULTS).map(([id, nar]) => [id, { nar }] as const),
])
