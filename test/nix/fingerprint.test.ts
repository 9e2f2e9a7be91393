import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import type { TestContext } from 'node:test'
import { fingerprint } from '../../src/nix/fingerprint.ts'
import type { SignedFields } from '../../src/nix/fingerprint.ts'
import { parseNarHash } from '../../src/nix/hash.ts'
import { formatSecretKey } from '../../src/nix/key.ts'
import { formatSignature, parseSignature, sign, verify } from '../../src/nix/signature.ts'
import { parseStorePath, parseStorePathBaseName } from '../../src/nix/store-path.ts'
import { skipWithoutNix } from '../kit/nix.ts'
import { tempDir } from '../kit/temp.ts'
import { STORE_DIR } from './genuine.ts'
import { sampleKey } from './sample.ts'

const A = parseStorePathBaseName('0c5zrpajq5ydlg2zbbnfs1l4lwbxsdqq-a')
const B = parseStorePathBaseName('1c5zrpajq5ydlg2zbbnfs1l4lwbxsdqq-b')
const HASH = '0'.repeat(52)
const fields = (references: SignedFields['references']): SignedFields => ({
  storePath: A,
  narHash: parseNarHash(`sha256:${HASH}`),
  narSize: 120,
  references,
})

describe('fingerprint', () => {
  it('ends in a semicolon without references', () => {
    assert.equal(fingerprint(fields([]), STORE_DIR), `1;/nix/store/${A};sha256:${HASH};120;`)
  })

  it('sorts the references, folds them, and keeps the path itself', () => {
    assert.equal(
      fingerprint(fields([B, A, B]), STORE_DIR),
      `1;/nix/store/${A};sha256:${HASH};120;/nix/store/${A},/nix/store/${B}`,
    )
  })

  it('is the same whatever the spelling of the hash', () => {
    const inHex = { ...fields([]), narHash: parseNarHash(`sha256:${'00'.repeat(32)}`) }
    assert.equal(fingerprint(inHex, STORE_DIR), fingerprint(fields([]), STORE_DIR))
  })

  it('signed by us equals what a real Nix signs', { skip: skipWithoutNix() }, async (t) => {
    const key = sampleKey('both-1', 9)
    const paths = await signedByNix(t, formatSecretKey(key))
    // Three text files: one refers to the other two.
    assert.deepEqual(
      paths.map((path) => path.references.length).sort((a, b) => a - b),
      [0, 0, 2],
    )
    for (const path of paths) {
      const text = fingerprint(
        {
          storePath: parseStorePath(path.path, STORE_DIR),
          narHash: parseNarHash(path.narHash),
          narSize: path.narSize,
          references: path.references.map((reference) => parseStorePath(reference, STORE_DIR)),
        },
        STORE_DIR,
      )
      assert.deepEqual(path.signatures, [formatSignature(sign(key, text))])
      assert.ok(path.signatures.every((line) => verify(key.publicKey, text, parseSignature(line))))
    }
  })
})

interface NixPathInfo {
  path: string
  narHash: string
  narSize: number
  references: string[]
  signatures: string[]
}

/** Fills a store of its own with three paths and has Nix sign them. */
async function signedByNix(t: TestContext, secretKey: string): Promise<NixPathInfo[]> {
  const dir = await tempDir(t)
  const root = join(dir, 'root')
  await mkdir(join(dir, 'home'))
  await writeFile(join(dir, 'secret'), secretKey)
  const nix = (command: string, ...args: string[]): string => {
    const env = { PATH: process.env['PATH'], HOME: join(dir, 'home'), NIX_CONF_DIR: join(dir, 'home') }
    const result = spawnSync(command, args, { encoding: 'utf8', env })
    assert.equal(result.status, 0, result.stderr)
    return result.stdout
  }
  const flags = ['--extra-experimental-features', 'nix-command']
  const expression = 'builtins.toFile "both" "${builtins.toFile "one" "1"} ${builtins.toFile "two" "2"}"'
  nix('nix-instantiate', '--store', root, '--eval', '--read-write-mode', '-E', expression)
  nix('nix', ...flags, 'store', 'sign', '--store', root, '-k', join(dir, 'secret'), '--all')
  const answer = nix('nix', ...flags, 'path-info', '--store', root, '--json', '--sigs', '--all')
  return pathInfosOf(JSON.parse(answer) as NixPathInfo[] | Record<string, Omit<NixPathInfo, 'path'>>)
}

/** From 2.19 on the answer is an object by path. */
function pathInfosOf(answer: NixPathInfo[] | Record<string, Omit<NixPathInfo, 'path'>>): NixPathInfo[] {
  if (Array.isArray(answer)) return answer
  return Object.entries(answer).map(([path, info]) => ({ ...info, path }))
}
