import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { globSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { skipWithoutNix } from '../kit/nix.ts'

const root = fileURLToPath(new URL('../../', import.meta.url))

test('every .nix file parses', { skip: skipWithoutNix() }, () => {
  const files = globSync(['flake.nix', 'nix/*.nix', 'test/nix-module/*.nix'], { cwd: root })
  assert.ok(files.length >= 6)
  for (const file of files) {
    const { status, stderr } = spawnSync('nix-instantiate', ['--parse', file], {
      cwd: root,
      encoding: 'utf8',
    })
    assert.equal(status, 0, stderr)
  }
})
