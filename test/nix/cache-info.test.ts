import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import * as fc from 'fast-check'
import { CacheInfoError, formatCacheInfo, parseCacheInfo } from '../../src/nix/cache-info.ts'
import type { CacheInfo } from '../../src/nix/cache-info.ts'
import { CACHE_INFO_MAX_BYTES } from '../../src/limits.ts'

const NIXOS = { storeDir: '/nix/store', wantMassQuery: true, priority: 40 }
const noPriority = { storeDir: '/nix/store', wantMassQuery: true }

describe('parseCacheInfo', () => {
  const taken: [text: string, info: CacheInfo][] = [
    ['StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n', NIXOS],
    ['StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40', NIXOS],
    ['StoreDir: /nix/store\r\nWantMassQuery: 1\r\nPriority: 40\r\n', NIXOS],
    ['StoreDir:/nix/store\nWantMassQuery:1\nPriority:40\n', NIXOS],
    ['# a comment\n\nPriority: 40\nWantMassQuery:  1 \nFuture: x\nStoreDir: /nix/store\n', NIXOS],
    ['StoreDir: /nix/store\n', { storeDir: '/nix/store', wantMassQuery: false }],
    ['Priority: 1\nPriority: abc\n', { wantMassQuery: false }],
    ['Priority: 0\n', { wantMassQuery: false, priority: 0 }],
    ['StoreDir: /gnu/store\n', { storeDir: '/gnu/store', wantMassQuery: false }],
    [
      'StoreDir: /nix/store\nStoreDir: /nix/store\nPriority: 1\nPriority: 2\n',
      { storeDir: '/nix/store', wantMassQuery: false, priority: 2 },
    ],
  ]
  for (const [text, info] of taken) {
    it(`reads ${JSON.stringify(text)}`, () => {
      assert.deepEqual(parseCacheInfo(text), info)
    })
  }

  for (const value of [
    '99999999999999999999',
    '2147483648',
    '-1',
    'NaN',
    'abc',
    '',
    '4.5',
    '1e3',
    '0x10',
    '40abc',
    'Infinity',
  ]) {
    it(`counts "Priority: ${value}" as none`, () => {
      assert.deepEqual(
        parseCacheInfo(`StoreDir: /nix/store\nWantMassQuery: 1\nPriority: ${value}\n`),
        noPriority,
      )
    })
  }

  for (const value of ['0', '2', 'true', 'yes', '01', '', '-1']) {
    it(`counts "WantMassQuery: ${value}" as false`, () => {
      assert.equal(parseCacheInfo(`WantMassQuery: ${value}\n`).wantMassQuery, false)
    })
  }

  const refused: [title: string, text: string][] = [
    ['nothing at all', ''],
    [
      'an HTML page',
      '<!DOCTYPE html>\n<html><head><title>Sign in</title></head>\n<style>\nbody: none\n</style></html>\n',
    ],
    ['lines without a colon', 'StoreDir /nix/store\nPriority 40\n'],
    ['JSON', '{"StoreDir": "/nix/store"}\n'],
    ['two store directories', 'StoreDir: /nix/store\nStoreDir: /gnu/store\n'],
    ['64 KiB and a byte', `Priority: 1\n${'x'.repeat(CACHE_INFO_MAX_BYTES - 11)}`],
  ]
  for (const [title, text] of refused) {
    it(`refuses ${title}`, () => {
      assert.throws(() => parseCacheInfo(text), CacheInfoError)
    })
  }

  it('takes 64 KiB', () => {
    assert.equal(parseCacheInfo(`Priority: 1\n${'x'.repeat(CACHE_INFO_MAX_BYTES - 12)}`).priority, 1)
  })

  it('says what it wanted when it gets an HTML page', () => {
    assert.throws(
      () => parseCacheInfo('<!DOCTYPE html>\n'),
      /no line of the form "Name: value".*<!DOCTYPE html>/,
    )
  })

  it('throws nothing but CacheInfoError, whatever the text', () => {
    const line = fc.tuple(fc.constantFrom('StoreDir', 'Priority', 'WantMassQuery', ''), fc.string())
    fc.assert(
      fc.property(fc.array(line), (lines) => {
        try {
          parseCacheInfo(lines.map(([name, value]) => `${name}:${value}`).join('\n'))
        } catch (error) {
          assert.ok(error instanceof CacheInfoError)
        }
      }),
    )
  })
})

describe('formatCacheInfo', () => {
  it('writes the three lines of cache.nixos.org', () => {
    assert.equal(formatCacheInfo(NIXOS), 'StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n')
  })
  it('is read back the same', () => {
    const info = { storeDir: '/some/store', wantMassQuery: false, priority: 7 }
    assert.deepEqual(parseCacheInfo(formatCacheInfo(info)), info)
  })
})
