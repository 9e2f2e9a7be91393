import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { TestContext } from 'node:test'
import { blocksOf } from '../substitute/kit.ts'
import { pass } from './deeds.ts'
import type { Deed } from './deeds.ts'
import { CACHE_PATH } from './faults.ts'
import type { Fault } from './faults.ts'
import type { Package } from './package.ts'

export interface FaultServer {
  readonly url: URL
  /** Of each kind of file, how often it was asked for. */
  readonly asked: Readonly<Record<keyof Fault, number>>
}

/** A cache with one package, and a gateway with its blocks, on loopback; healthy but for its fault. */
export async function serveFault(t: TestContext, pkg: Package, fault: Fault): Promise<FaultServer> {
  const asked = { cacheInfo: 0, narInfo: 0, nar: 0 }
  const counts = new Map<string, number>()
  const blocks = new Map([...blocksOf(pkg.nar)].map(([cid, bytes]) => [`ipfs/${cid}`, Buffer.from(bytes)]))

  const find = (name: string): { kind: keyof Fault; body: Buffer } | undefined => {
    if (name === 'nix-cache-info') return { kind: 'cacheInfo', body: Buffer.from(CACHE_INFO) }
    if (name === `${pkg.hashPart}.narinfo`) return { kind: 'narInfo', body: Buffer.from(pkg.text) }
    if (name === pkg.info.url) return { kind: 'nar', body: pkg.file }
    const block = blocks.get(name)
    return block === undefined ? undefined : { kind: 'nar', body: block }
  }
  const server = createServer((request, response) => {
    response.on('error', () => {})
    const { pathname } = new URL(request.url ?? '/', 'http://localhost')
    const found = pathname.startsWith(CACHE_PATH) ? find(pathname.slice(CACHE_PATH.length)) : undefined
    if (found === undefined) {
      response.writeHead(404).end()
      return
    }
    const { kind, body } = found
    asked[kind] += 1
    const count = (counts.get(pathname) ?? 0) + 1
    counts.set(pathname, count)
    const deed: Deed = fault[kind] ?? pass
    deed({
      request,
      response,
      body,
      other: pkg.otherFile.subarray(0, pathname.includes('/ipfs/') ? body.length : undefined),
      count,
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  return { url: new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}${CACHE_PATH}`), asked }
}

const CACHE_INFO = 'StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n'
