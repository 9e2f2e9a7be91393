import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { describe, it } from 'node:test'
import * as fc from 'fast-check'
import { splitName } from '../../src/nix/package-name.ts'
import { nixCommand, skipWithoutNix } from '../kit/nix.ts'

const TABLE: [name: string, packageName: string, version: string][] = [
  ['hello-2.12.1', 'hello', '2.12.1'],
  ['hello', 'hello', ''],
  ['hello-', 'hello-', ''],
  ['-', '-', ''],
  ['--', '', '-'],
  ['-1', '', '1'],
  ['hello--1', 'hello', '-1'],
  ['hello-2.12.1-doc', 'hello', '2.12.1-doc'],
  ['openssl-3.0.22', 'openssl', '3.0.22'],
  ['python3.11-numpy-1.24.2', 'python3.11-numpy', '1.24.2'],
  ['xf86-video-intel-unstable-2021-01-15', 'xf86-video-intel-unstable', '2021-01-15'],
  ['source', 'source', ''],
  ['unit-nix-daemon.service', 'unit-nix-daemon.service', ''],
  ['X-Restart-Triggers', 'X-Restart-Triggers', ''],
  ['gtk+-3.24', 'gtk+', '3.24'],
  ['a-_b', 'a', '_b'],
  ['a-.b-1', 'a', '.b-1'],
  ['a-Z-9', 'a-Z', '9'],
  ['0001-fix.patch', '0001-fix.patch', ''],
]

/** What Nix says, of all at once. */
function askNix(names: readonly string[]): { name: string; version: string }[] {
  // A store path's name has no character that a Nix string would want escaped.
  const expression = `map builtins.parseDrvName [ ${names.map((name) => `"${name}"`).join(' ')} ]`
  const [command, args] = nixCommand('nix-instantiate', ['--eval', '--strict', '--json', '-E', expression])
  return JSON.parse(execFileSync(command, args, { encoding: 'utf8' })) as { name: string; version: string }[]
}

describe('splitName', () => {
  for (const [name, packageName, version] of TABLE) {
    it(name, () => assert.deepEqual(splitName(name), { packageName, version }))
  }

  it('says what Nix says', { skip: skipWithoutNix() }, () => {
    const character = fc.constantFrom(...'--aZ09.+_?='.split(''))
    const random = fc.sample(fc.string({ unit: character, minLength: 1, maxLength: 12 }), 500)
    const names = [...TABLE.map(([name]) => name), ...random]
    assert.deepEqual(
      names.map((name) => splitName(name)).map(({ packageName: name, version }) => ({ name, version })),
      askNix(names),
    )
  })
})
