import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { promisify } from 'node:util'
import * as fc from 'fast-check'
import { createListing, ListingError } from '../../src/nix/listing.ts'
import type { NarNode } from '../../src/nix/nar-layout.ts'
import { createNarReader } from '../../src/nix/nar-reader.ts'
import { skipWithoutNix } from '../kit/nix.ts'
import { tempDir } from '../kit/temp.ts'
import { trees } from './nar-arbitrary.ts'
import { narBytes } from './nar-tree.ts'

const run = promisify(execFile)

function listingOf(nar: Uint8Array): string {
  const listing = createListing()
  const reader = createNarReader({ onEntry: (entry) => listing.add(entry) })
  reader.push(nar)
  reader.end()
  return listing.finish()
}

const bytes = (text: string): Uint8Array => Buffer.from(text, 'latin1')
const file = (size = 0, executable = false): NarNode => ({ type: 'regular', size, executable, path: 'f' })
const link = (target: string): NarNode => ({ type: 'symlink', target: bytes(target) })
const directory = (entries: Record<string, NarNode>): NarNode => ({
  type: 'directory',
  entries: Object.entries(entries).map(([name, node]) => ({ name: bytes(name), node })),
})
const listed = (root: NarNode): string =>
  listingOf(narBytes({ root, contents: new Map([['f', new Uint8Array(9)]]) }))

describe('listing', () => {
  const cases: [title: string, root: NarNode, json: string][] = [
    ['a file', file(3), '{"type":"regular","size":3,"narOffset":96}'],
    ['a program', file(3, true), '{"type":"regular","size":3,"executable":true,"narOffset":128}'],
    ['an empty file', file(0), '{"type":"regular","size":0,"narOffset":96}'],
    ['a link', link('../a"b'), '{"type":"symlink","target":"../a\\"b"}'],
    ['an empty directory', directory({}), '{"type":"directory","entries":{}}'],
    [
      'empty directories beside and in each other',
      directory({ a: directory({ b: directory({}) }), c: directory({}) }),
      '{"type":"directory","entries":{"a":{"type":"directory","entries":{"b":{"type":"directory","entries":{}}}},"c":{"type":"directory","entries":{}}}}',
    ],
    [
      'names that JavaScript would put in another order',
      directory({ '10': link('x'), '9': link('x'), __proto__x: link('x') }),
      '{"type":"directory","entries":{"10":{"type":"symlink","target":"x"},"9":{"type":"symlink","target":"x"},"__proto__x":{"type":"symlink","target":"x"}}}',
    ],
  ]
  for (const [title, root, json] of cases) {
    it(`describes ${title}`, () => assert.equal(listed(root), `{"version":1,"root":${json}}`))
  }

  for (const [title, root] of [
    ['a name', directory({ '\xff': file() })],
    ['a name in an inner directory', directory({ a: directory({ 'b\xc3': file() }) })],
    ['a target', link('\xc0\xaf')],
    ['half of a surrogate pair', link('\xed\xa0\x80')],
  ] as const) {
    it(`refuses ${title} that is not UTF-8`, () => assert.throws(() => listed(root), ListingError))
  }

  it('tells each file where its contents are, in JSON that every parser takes', () => {
    fc.assert(
      fc.property(trees(), (tree) => {
        const nar = narBytes(tree)
        let text: string
        try {
          text = listingOf(nar)
        } catch (error) {
          assert.ok(error instanceof ListingError)
          return
        }
        const found: Buffer[] = []
        const visit = (node: JsonNode): void => {
          if (node.type === 'directory') for (const child of Object.values(node.entries)) visit(child)
          if (node.type === 'regular') {
            assert.equal(nar.readBigUInt64LE(node.narOffset - 8), BigInt(node.size))
            found.push(nar.subarray(node.narOffset, node.narOffset + node.size))
          }
        }
        visit((JSON.parse(text) as { root: JsonNode }).root)
        const wanted = [...tree.contents.values()].map((one) => Buffer.from(one).toString('hex')).sort()
        assert.deepEqual(found.map((one) => one.toString('hex')).sort(), wanted)
      }),
    )
  })

  /** Nix 2.8; newer ones order the keys of their JSON by name. */
  it('is byte for byte what Nix writes', { skip: skipWithoutNix() }, async (t) => {
    const dir = await tempDir(t)
    const tree = join(dir, 'tree')
    await mkdir(join(tree, 'sub', 'deep', 'empty'), { recursive: true })
    await writeFile(join(tree, 'program'), '#!/bin/sh\n', { mode: 0o755 })
    await writeFile(join(tree, 'empty'), '')
    await symlink('no where', join(tree, 'link'))
    for (const name of ['10', '9', 'a"b\\c', 'tab\tnl\nbs\bff\fcr\rdel\x7fb1\x01', 'üñ€𝄞', '\u2028']) {
      await writeFile(join(tree, 'sub', name), name)
    }
    await writeFile(join(tree, 'sub', 'deep', '__proto__'), 'x')

    const env = { ...process.env, HOME: dir, NIX_REMOTE: '' }
    const { stdout: version } = await run('nix', ['--version'], { env })
    if (!version.includes(' 2.8.')) {
      t.skip(`${version.trim()} orders the keys in another way`)
      return
    }
    const root = join(dir, 'root')
    const { stdout } = await run('nix-store', ['--store', root, '--add', tree], { env })
    const path = stdout.trim()
    const to = `file://${dir}/cache?write-nar-listing=1&compression=none`
    const experimental = ['--extra-experimental-features', 'nix-command']
    await run('nix', [...experimental, 'copy', '--no-check-sigs', '--from', root, '--to', to, path], { env })
    const [nar = ''] = await readdir(join(dir, 'cache', 'nar'))
    const [ls = ''] = (await readdir(join(dir, 'cache'))).filter((name) => name.endsWith('.ls'))
    assert.equal(
      listingOf(await readFile(join(dir, 'cache', 'nar', nar))),
      await readFile(join(dir, 'cache', ls), 'utf8'),
    )
  })
})

type JsonNode =
  | { type: 'directory'; entries: Record<string, JsonNode> }
  | { type: 'regular'; size: number; narOffset: number }
  | { type: 'symlink'; target: string }
