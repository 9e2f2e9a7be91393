/** Takes a path from a cache as Nix does: nix-cache-info, narinfo, NAR; what was cut is resumed by Range. */
import assert from 'node:assert/strict'
import { get } from 'node:http'
import type { IncomingHttpHeaders } from 'node:http'
import { NAR_FIRST_BYTE_DEADLINE_MS, RESOLVE_DEADLINE_MS } from '../../src/limits.ts'
import { parseCacheInfo } from '../../src/nix/cache-info.ts'
import { trustedKeys } from '../../src/nix/key.ts'
import { formatNarInfo, parseNarInfo } from '../../src/nix/narinfo.ts'
import { STORE_DIR } from '../nix/genuine.ts'
import { createPolicy } from '../../src/substitute/policy.ts'
import { signer } from '../substitute/kit.ts'
import type { Package } from './package.ts'

/**
 * `cut`: the NAR broke off, and its retries brought nothing. `hash mismatch`: what came before the cut was wrong, as
 * Nix notices when it has all. Both are its next substituter's turn (nix-protocol A9).
 */
export type Outcome = 'whole' | 'no narinfo' | 'no NAR' | 'cut' | 'hash mismatch'

export interface Taken {
  readonly outcome: Outcome
  /** How many requests it took for the NAR. */
  readonly narRequests: number
}

/** As `download-attempts` of Nix. */
const ATTEMPTS = 5
/** On top of a promised deadline: machines that run tests are busy. */
const SLACK_MS = 10_000
const NAR_DEADLINE_MS = 60_000

const policy = createPolicy({ keys: trustedKeys([signer.publicKey]), threshold: 1, storeDir: STORE_DIR })

/** @throws AssertionError at any answer that a Nix, old or new, could stumble over */
export async function takePath(base: string, pkg: Package, onNarInfo: () => void = () => {}): Promise<Taken> {
  const cacheInfo = await request(`${base}/nix-cache-info`, { deadlineMs: RESOLVE_DEADLINE_MS })
  assert.equal(cacheInfo.status, 200)
  assert.equal(parseCacheInfo(cacheInfo.body.toString()).storeDir, STORE_DIR)
  assert.ok(Number.isInteger(parseCacheInfo(cacheInfo.body.toString()).priority))

  const narInfo = await request(`${base}/${pkg.hashPart}.narinfo`, { deadlineMs: RESOLVE_DEADLINE_MS })
  if (narInfo.status === 404) {
    assert.equal(narInfo.headers['cache-control'], 'no-store')
    return { outcome: 'no narinfo', narRequests: 0 }
  }
  assert.equal(narInfo.status, 200)
  assert.ok(narInfo.whole)
  assertPerfect(narInfo.body.toString(), pkg)
  onNarInfo()

  const url = `${base}/nar/${pkg.info.narHash}.nar`
  let had = 0
  let right = true
  for (let narRequests = 1; narRequests <= ATTEMPTS; narRequests++) {
    const answer = await request(url, { deadlineMs: NAR_FIRST_BYTE_DEADLINE_MS, from: had })
    if (answer.status === 404) return { outcome: 'no NAR', narRequests }
    assertNarHead(answer, pkg, had)
    if (answer.whole) {
      assert.ok(answer.body.equals(pkg.nar.subarray(had)), 'a response that completed has wrong bytes')
      return { outcome: right ? 'whole' : 'hash mismatch', narRequests }
    }
    right &&= answer.body.equals(pkg.nar.subarray(had, had + answer.body.length))
    had += answer.body.length
  }
  return { outcome: 'cut', narRequests: ATTEMPTS }
}

/** Canonical, signed, with nothing in it that some Nix refuses, and of the path that was asked for. */
function assertPerfect(text: string, { info }: Package): void {
  const told = parseNarInfo(text, STORE_DIR)
  // Whatever our own parser forgives, such as a malformed Sig, is not written again.
  assert.equal(formatNarInfo(told, STORE_DIR), text)
  const { storePath, narHash, narSize, references, signatures, cid } = policy.verify(told)
  assert.deepEqual(signatures, told.signatures)
  assert.deepEqual(
    { storePath, narHash, narSize, references },
    {
      storePath: info.storePath,
      narHash: info.narHash,
      narSize: info.narSize,
      references: info.references,
    },
  )
  assert.deepEqual(told, {
    storePath,
    narHash,
    narSize,
    references,
    signatures,
    url: `nar/${narHash}.nar`,
    compression: 'none',
    fileHash: narHash,
    fileSize: narSize,
    ...(cid === undefined ? {} : { cid }),
  })
}

function assertNarHead({ status, headers }: Answer, { info }: Package, from: number): void {
  assert.equal(status, from === 0 ? 200 : 206)
  assert.equal(headers['content-length'], String(info.narSize - from))
  assert.equal(headers['accept-ranges'], 'bytes')
  assert.equal(headers.etag, `"${info.narHash}"`)
  if (from > 0) {
    assert.equal(headers['content-range'], `bytes ${from}-${info.narSize - 1}/${info.narSize}`)
  }
}

interface Answer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: Buffer
  /** Not cut. */
  readonly whole: boolean
}

/** @throws when there is no answer in time, or any but those that no Nix takes amiss */
function request(url: string, options: { deadlineMs: number; from?: number }): Promise<Answer> {
  const { deadlineMs, from = 0 } = options
  return new Promise((resolve, reject) => {
    const asked = get(url, { agent: false, headers: from === 0 ? {} : { range: `bytes=${from}-` } })
    const patience = setTimeout(
      () => asked.destroy(new Error(`${url}: no answer within ${deadlineMs + SLACK_MS} ms`)),
      deadlineMs + SLACK_MS,
    )
    asked.on('error', (error) => {
      clearTimeout(patience)
      reject(error)
    })
    asked.on('response', (response) => {
      clearTimeout(patience)
      const { statusCode: status = 0, headers } = response
      const parts: Buffer[] = []
      const stuck = setTimeout(() => reject(new Error(`${url}: neither ended nor cut`)), NAR_DEADLINE_MS)
      response.on('data', (part: Buffer) => parts.push(part))
      // A cut; `complete` tells.
      response.on('error', () => {})
      response.on('close', () => {
        clearTimeout(stuck)
        try {
          assert.ok([200, 206, 404].includes(status), `${url}: status ${status}`)
          assert.equal(headers['content-encoding'], undefined)
          resolve({ status, headers, body: Buffer.concat(parts), whole: response.complete })
        } catch (error) {
          reject(error)
        }
      })
    })
  })
}
