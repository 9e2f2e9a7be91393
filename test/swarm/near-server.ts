import { createServer } from 'node:http'
import type { ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { TestContext } from 'node:test'
import { formatNarInfo } from '../../src/nix/narinfo.ts'
import type { NarInfo } from '../../src/nix/narinfo.ts'
import { hashPartOf } from '../../src/nix/store-path.ts'
import { rangeOf } from '../kit/range.ts'
import { STORE_DIR } from '../nix/genuine.ts'

export interface NearServer {
  readonly url: URL
  /** Paths with their queries, without the first slash. */
  readonly asked: string[]
  /** Bytes of bodies that went out. */
  readonly given: () => number
  /** Cuts all connections and takes none any more. */
  die(): void
}

/** @returns true when it has dealt with the request itself; or what goes out instead of the body */
export type Mischief = (
  path: string,
  body: Uint8Array | undefined,
  response: ServerResponse,
) => Uint8Array | boolean | void

/** A machine on the LAN with these files: answers ranges, and does some mischief on the way. */
export async function serveNear(
  t: TestContext,
  files: ReadonlyMap<string, Uint8Array>,
  mischief: Mischief = () => {},
): Promise<NearServer> {
  const asked: string[] = []
  let given = 0
  const server = createServer((request, response) => {
    const path = (request.url ?? '/').slice(1)
    asked.push(path)
    const whole = files.get(path)
    const instead = mischief(path, whole, response)
    if (instead === true) return
    const body = instead instanceof Uint8Array ? instead : whole
    if (body === undefined) {
      response.writeHead(404).end()
      return
    }
    const { start, end, status, headers } = rangeOf(request.headers.range, body.length)
    given += end - start
    const type = path.startsWith('ipfs/') ? 'application/vnd.ipld.raw' : 'application/octet-stream'
    response.writeHead(status, { ...headers, 'content-type': type }).end(body.subarray(start, end))
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  const die = (): void => {
    server.closeAllConnections()
    server.close()
  }
  t.after(die)
  const { port } = server.address() as AddressInfo
  return { url: new URL(`http://127.0.0.1:${port}/`), asked, given: () => given, die }
}

/** What a binary cache has, uncompressed. */
export function cacheFiles(info: NarInfo, nar: Uint8Array): Map<string, Uint8Array> {
  const url = `nar/${info.narHash}.nar`
  return new Map([
    ['nix-cache-info', Buffer.from(`StoreDir: ${STORE_DIR}\nPriority: 30\n`)],
    [narInfoFile(info), Buffer.from(formatNarInfo({ ...info, url, compression: 'none' }, STORE_DIR))],
    [url, nar],
  ])
}

export function narInfoFile(info: Pick<NarInfo, 'storePath'>): string {
  return `${hashPartOf(info.storePath)}.narinfo`
}

/** What a gateway has. */
export function gatewayFiles(blocks: ReadonlyMap<string, Uint8Array>): Map<string, Uint8Array> {
  return new Map([...blocks].map(([cid, bytes]) => [`ipfs/${cid}?format=raw`, bytes]))
}
