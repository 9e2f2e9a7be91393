import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { describe, it } from 'node:test'
import { fingerprint } from '../../src/nix/fingerprint.ts'
import { parsePublicKey } from '../../src/nix/key.ts'
import { formatSignature, verify } from '../../src/nix/signature.ts'
import { hashPartOf, isHashPart, parseStorePathBaseName } from '../../src/nix/store-path.ts'
import type { HashPart, StorePath } from '../../src/nix/store-path.ts'
import { StorePathNotValidError } from '../../src/store/errors.ts'
import { skipWithoutNix } from '../kit/nix.ts'
import { infoOf, realStore } from './real-store.ts'
import type { RealStore } from './real-store.ts'

/** `hash part` of one repeated character: their order is that of the characters. */
const made = (char: string, name: string): StorePath => parseStorePathBaseName(`${char.repeat(32)}-${name}`)

async function addFile(store: RealStore, name: string): Promise<StorePath> {
  const source = join(store.sources, name)
  await writeFile(source, name)
  return store.add(source)
}

/** Runs SQL in Nix's database, as something else than Nix would have to leave it so. */
function tamper(store: RealStore, sql: string, ...values: (string | number | null)[]): void {
  const db = new DatabaseSync(store.database)
  db.prepare(sql).run(...values)
  db.close()
}

describe('pathInfo', { skip: skipWithoutNix() }, () => {
  it('says what nix-store --query says', async (t) => {
    const store = await realStore(t)
    const path = await addFile(store, 'hello')
    const query = (what: string): string =>
      execFileSync('nix-store', ['--store', store.root, '--query', what, `/nix/store/${path}`])
        .toString()
        .trim()
    const before = Date.now()
    const { registeredAt, ...info } = infoOf(store.open(), path)
    assert.deepEqual(info, {
      storePath: path,
      narHash: query('--hash').replace('sha256:', ''),
      narSize: Number(query('--size')),
      references: [],
      signatures: [],
      ca: `fixed:r:${query('--hash')}`,
      ultimate: false,
    })
    assert.ok(Math.abs(before - registeredAt) < 120_000)
  })

  it('gives references in order, the self reference among them, and the deriver', async (t) => {
    const store = await realStore(t)
    const [a, b, c] = [made('a', 'a'), made('b', 'b'), made('c', 'c')]
    const deriver = made('d', 'c.drv')
    store.register([
      { path: b, references: [] },
      { path: a, references: [] },
      { path: c, references: [c, b, a], deriver },
    ])
    const info = infoOf(store.open(), c)
    assert.deepEqual(info.references, [a, b, c])
    assert.equal(info.deriver, deriver)
    assert.equal(info.narSize, 96)
  })

  it('gives signatures that verify', async (t) => {
    const store = await realStore(t)
    const path = await addFile(store, 'signed')
    for (const name of ['one-1', 'two-1']) {
      const [secret, known] = [join(store.sources, `${name}.secret`), join(store.sources, `${name}.public`)]
      execFileSync('nix-store', ['--generate-binary-cache-key', name, secret, known])
      const nix = ['--extra-experimental-features', 'nix-command', '--store', store.root]
      execFileSync('nix', [...nix, 'store', 'sign', '-k', secret, `/nix/store/${path}`], { stdio: 'pipe' })
    }
    const info = infoOf(store.open(), path)
    assert.equal(info.signatures.length, 2)
    for (const signature of info.signatures) {
      const key = parsePublicKey(
        readFileSync(join(store.sources, `${signature.keyName}.public`), 'utf8').trim(),
      )
      assert.ok(verify(key, fingerprint(info, '/nix/store'), signature))
    }
    tamper(store, "UPDATE ValidPaths SET sigs = sigs || ' junk x:AAAA'")
    assert.deepEqual(
      infoOf(store.open(), path).signatures.map(formatSignature),
      info.signatures.map(formatSignature),
    )
  })

  it('finds a path by exactly its hash part', async (t) => {
    const store = await realStore(t)
    store.register(['b', 'd', 'f'].map((char) => ({ path: made(char, 'x'), references: [] })))
    const local = store.open()
    const found = ['a', 'b', 'c', 'd', 'f', 'g'].filter((char) => {
      const part = char.repeat(32)
      assert.ok(isHashPart(part))
      return local.pathInfo(part) !== undefined
    })
    assert.deepEqual(found, ['b', 'd', 'f'])
    assert.equal(local.pathInfo(`${'b'.repeat(31)}d` as HashPart), undefined)
  })

  it('says 0 for a NarSize that Nix does not know', async (t) => {
    const store = await realStore(t)
    const path = await addFile(store, 'old')
    tamper(store, 'UPDATE ValidPaths SET narSize = NULL, deriver = ?', '')
    const info = infoOf(store.open(), path)
    assert.equal(info.narSize, 0)
    assert.equal(info.deriver, undefined)
  })

  it('sees paths that are added and removed after it was opened', async (t) => {
    const store = await realStore(t)
    const local = store.open()
    const path = await addFile(store, 'later')
    assert.equal(infoOf(local, path).storePath, path)
    execFileSync('nix-store', ['--store', store.root, '--delete', `/nix/store/${path}`], { stdio: 'pipe' })
    assert.equal(local.pathInfo(hashPartOf(path)), undefined)
  })

  for (const [column, value] of [
    ['hash', 'sha256:xyz'],
    ['path', '/nix/store/ffffffffffffffffffffffffffffffff-a b'],
    ['narSize', 'many'],
  ] as const)
    it(`refuses a row whose ${column} is ${value}`, async (t) => {
      const store = await realStore(t)
      store.register([{ path: made('f', 'x'), references: [] }])
      tamper(store, `UPDATE ValidPaths SET ${column} = ?`, value)
      assert.throws(() => store.open().pathInfo('f'.repeat(32) as HashPart))
    })
})

describe('closure', { skip: skipWithoutNix() }, () => {
  it('gives each path once, references first', async (t) => {
    const store = await realStore(t)
    const [a, b, c, d] = [made('a', 'top'), made('b', 'left'), made('c', 'right'), made('d', 'bottom')]
    const other = made('f', 'other')
    store.register([
      { path: d, references: [d] },
      { path: c, references: [d] },
      { path: b, references: [d, b] },
      { path: a, references: [b, c] },
      { path: other, references: [] },
    ])
    const local = store.open()
    const paths = local.closure([a, c]).map(({ storePath }) => storePath)
    assert.deepEqual(paths, [d, b, c, a])
    assert.deepEqual(
      local.closure([c, a]).map(({ storePath }) => storePath),
      [d, c, b, a],
    )
    assert.deepEqual(local.closure([]), [])
  })

  it('names a path that is not valid', async (t) => {
    const store = await realStore(t)
    const missing = made('f', 'missing')
    assert.throws(
      () => store.open().closure([missing]),
      (error) => error instanceof StorePathNotValidError && error.storePath === missing,
    )
  })

  it('follows a chain that is longer than the stack', async (t) => {
    const store = await realStore(t)
    const links = 20_000
    const db = new DatabaseSync(store.database)
    const pathOf = (index: number): StorePath =>
      parseStorePathBaseName(`${String(index).padStart(32, '0')}-link`)
    const row = db.prepare(
      'INSERT INTO ValidPaths (id, path, hash, registrationTime, narSize) VALUES (?, ?, ?, 1, 96)',
    )
    const edge = db.prepare('INSERT INTO Refs (referrer, reference) VALUES (?, ?)')
    db.exec('BEGIN')
    for (let index = 1; index <= links; index += 1)
      row.run(index, `/nix/store/${pathOf(index)}`, `sha256:${'0'.repeat(64)}`)
    for (let index = 1; index < links; index += 1) edge.run(index, index + 1)
    db.exec('COMMIT')
    db.close()
    const paths = store.open().closure([pathOf(1)])
    assert.equal(paths.length, links)
    assert.equal(paths[0]?.storePath, pathOf(links))
  })

  it('does not follow a circle for ever', async (t) => {
    const store = await realStore(t)
    const [a, b] = [made('a', 'a'), made('b', 'b')]
    store.register([
      { path: b, references: [] },
      { path: a, references: [b] },
    ])
    tamper(store, 'INSERT INTO Refs SELECT reference, referrer FROM Refs')
    assert.equal(store.open().closure([a]).length, 2)
  })
})

describe('registered', { skip: skipWithoutNix() }, () => {
  it('gives all valid paths in the order of their registration, some at a time', async (t) => {
    const store = await realStore(t)
    const paths: StorePath[] = []
    for (const name of ['one', 'two', 'three']) paths.push(await addFile(store, name))
    tamper(store, 'UPDATE ValidPaths SET sigs = ? WHERE path = ?', 'a:b', `/nix/store/${paths[1]}`)
    tamper(store, 'UPDATE ValidPaths SET hash = ? WHERE path = ?', 'md5:x', `/nix/store/${paths[2]}`)
    const local = store.open()
    const first = local.registered.after(0, 2)
    assert.deepEqual(
      first.paths.map(({ storePath, isSigned }) => [storePath, isSigned]),
      [
        [paths[0], false],
        [paths[1], true],
      ],
    )
    const { narHash, narSize } = infoOf(local, paths[0]!)
    const { id, ...row } = first.paths[0]!
    assert.deepEqual(row, { storePath: paths[0], narHash, narSize, isSigned: false })
    assert.deepEqual(local.registered.byId(id), first.paths[0])
    // A row that cannot be read ends nothing.
    const second = local.registered.after(first.lastId, 2)
    assert.deepEqual(second.paths, [])
    assert.ok(second.lastId > first.lastId)
    assert.deepEqual(local.registered.after(second.lastId, 2), { paths: [], lastId: second.lastId })
  })

  it('has another change mark after Nix has written, and after nothing else', async (t) => {
    const store = await realStore(t)
    await addFile(store, 'one')
    const local = store.open()
    const before = local.registered.changeMark()
    local.registered.after(0, 9)
    assert.equal(local.registered.changeMark(), before)
    const path = await addFile(store, 'two')
    const after = local.registered.changeMark()
    assert.notEqual(after, before)
    execFileSync('nix-store', ['--store', store.root, '--delete', `/nix/store/${path}`], { stdio: 'pipe' })
    assert.notEqual(local.registered.changeMark(), after)
  })
})
