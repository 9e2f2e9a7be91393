import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { parseDebugInfo } from '../../src/nix/debug-info.ts'
import { checkBuildTrace, checkRealisation } from '../../src/nix/realisation.ts'

/** As Nix 2.8 wrote it, with a key of the test's own. */
const ID = 'sha256:8889cdf8883631bc4498751b4972bf1aab5e138d89992654492d79c45fba7edc!out'
const GENUINE = `{"dependentRealisations":{},"id":"${ID}","outPath":"w6gfjfvhgcxzjjjanpyw43q3d158dayx-ca-1.0","signatures":["k-1:FjWu03P/lgufG1GV5H81xNhy+DM2NeLPdFblKM/dhTVbgxvKz1xJ6Wet8Ml2jA43k64JVQk7exBNkQbg/KiWCA=="]}`
const outPath = 'w6gfjfvhgcxzjjjanpyw43q3d158dayx-ca-1.0'
const sig = 'FjWu03P/lgufG1GV5H81xNhy+DM2NeLPdFblKM/dhTVbgxvKz1xJ6Wet8Ml2jA43k64JVQk7exBNkQbg/KiWCA=='

describe('realisation', () => {
  it('of Nix 2.8 is one', () => checkRealisation(GENUINE, ID))
  it('without signatures is one, which Nix judges', () =>
    checkRealisation(JSON.stringify({ id: ID, outPath }), ID))
  it('of another output is none', () =>
    assert.throws(() => checkRealisation(GENUINE, ID.replace('!out', '!dev')), RangeError))
  for (const text of [
    '',
    '{',
    '[]',
    'null',
    '"x"',
    '1',
    '{}',
    GENUINE.replace('k-1:', 'k-1'),
    `${GENUINE}x`,
  ]) {
    it(`${text.slice(0, 20)} is none`, () => assert.throws(() => checkRealisation(text, ID)))
  }
})

describe('build trace', () => {
  it('has its signatures in parts', () =>
    checkBuildTrace(JSON.stringify({ outPath, signatures: [{ keyName: 'k-1', sig }] })))
  it('without signatures is one, which Nix judges', () => checkBuildTrace(JSON.stringify({ outPath })))
  const bad: unknown[] = [
    {},
    { outPath: '../x' },
    { outPath, signatures: {} },
    { outPath, signatures: ['k-1'] },
    { outPath, signatures: [{ keyName: 'k-1' }] },
    { outPath, signatures: [{ keyName: 'k:1', sig }] },
  ]
  for (const one of bad) {
    it(`${JSON.stringify(one).slice(0, 70)} is none`, () =>
      assert.throws(() => checkBuildTrace(JSON.stringify(one))))
  }
})

describe('debug info', () => {
  const buildId = '4f'.repeat(20)
  const narHash = `1${'a'.repeat(51)}`
  const member = `lib/debug/.build-id/4f/${'4f'.repeat(19)}.debug`
  const text = (archive: unknown, of: unknown = member): string => JSON.stringify({ archive, member: of })
  it('names a NAR by its NarHash', () =>
    assert.equal(parseDebugInfo(text(`../nar/${narHash}.nar.zst`), buildId), narHash))
  const bad = [
    text(`nar/${narHash}.nar`),
    text(`../../nar/${narHash}.nar`),
    text(`../nar/../nar/${narHash}.nar`),
    text(`../nar/${narHash}.nar/x`),
    text(`../nar/${narHash}.nar?x`),
    text(`../nar/2${narHash.slice(1)}.nar`),
    text([`../nar/${narHash}.nar`, 1]),
    text(`../nar/${narHash}.nar`, '../../etc/passwd'),
    text(`../nar/${narHash}.nar`, member.replace('4f/', '4f/0')),
    '1',
    'null',
  ]
  for (const one of bad) {
    it(`${one.slice(0, 90)} names none`, () => assert.throws(() => parseDebugInfo(one, buildId)))
  }
})
