import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { FeedFormatError } from '../../src/feed/errors.ts'
import { feedFileStem, feedNameOfStem, parseFeedName } from '../../src/feed/feed-name.ts'
import { formatFeedPath, parseFeedPath, splitFeedPath, type FeedPath } from '../../src/feed/feed-path.ts'

const PATHS: [string, FeedPath][] = [
  ['root/1', { kind: 'root', version: 1 }],
  ['e1/checkpoint', { kind: 'checkpoint', epoch: 1 }],
  ['e1/tile/entries/000', { kind: 'entries', epoch: 1, n: 0, width: 256 }],
  ['e12/tile/entries/x001/x234/067', { kind: 'entries', epoch: 12, n: 1_234_067, width: 256 }],
  ['e1/tile/entries/x001/000.p/255', { kind: 'entries', epoch: 1, n: 1000, width: 255 }],
  ['e1/tile/0/999', { kind: 'tile', epoch: 1, level: 0, n: 999, width: 256 }],
  ['e1/tile/63/000.p/1', { kind: 'tile', epoch: 1, level: 63, n: 0, width: 1 }],
]

for (const [text, path] of PATHS) {
  test(`reads and writes ${text}`, () => {
    assert.deepEqual(parseFeedPath(text), path)
    assert.equal(formatFeedPath(path), text)
    assert.deepEqual(splitFeedPath(`narswarm.example/main/${text}`), {
      name: 'narswarm.example/main',
      path: text,
    })
  })
}

for (const text of [
  '',
  '/',
  'root',
  'root/',
  'root/0',
  'root/01',
  'root/1/',
  '/root/1',
  'root/../e1/checkpoint',
  'root/9007199254740992',
  'e0/checkpoint',
  'e01/checkpoint',
  'e1/checkpoint.tmp',
  'E1/checkpoint',
  'e1/tile/64/000',
  'e1/tile/00/000',
  'e1/tile/-1/000',
  'e1/tile/entries/0',
  'e1/tile/entries/0000',
  'e1/tile/entries/001/002',
  'e1/tile/entries/x000/001',
  'e1/tile/entries/x001',
  'e1/tile/entries/000.p/0',
  'e1/tile/entries/000.p/256',
  'e1/tile/entries/000.p/01',
  'e1/tile/entries/000.p/',
  'e1/tile/entries/000\n',
  'e1/tile/entries/000\0',
  'e1/tile/entries/%30%30%30',
  'e1/tile/entries/٠٠٠',
  'e1/tile/other/000',
  '../keys/x.key',
]) {
  test(`refuses ${JSON.stringify(text)}`, () => {
    assert.equal(parseFeedPath(text), undefined)
    assert.equal(splitFeedPath(`narswarm.example/main/${text}`), undefined)
  })
}

test('every index reads back', () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), fc.integer({ min: 1, max: 256 }), (n, width) => {
      const path: FeedPath = { kind: 'entries', epoch: 1, n, width }
      assert.deepEqual(parseFeedPath(formatFeedPath(path)), path)
    }),
  )
})

test('a name that looks like a path is still told apart from one', () => {
  const split = { name: 'a.example/e1/root', path: 'e1/checkpoint' }
  assert.deepEqual(splitFeedPath('a.example/e1/root/e1/checkpoint'), split)
  assert.deepEqual(splitFeedPath('a.example/root/1/root/1'), { name: 'a.example/root/1', path: 'root/1' })
})

for (const name of ['narswarm.example/main', 'localhost/a', 'a-b.c/x_y/z.1/-', 'a/_']) {
  test(`takes the feed name ${name}`, () => {
    assert.equal(parseFeedName(name), name)
    assert.equal(feedNameOfStem(feedFileStem(parseFeedName(name))), name)
    assert.match(feedFileStem(parseFeedName(name)), /^[^/]+$/)
  })
}

for (const name of [
  '',
  'main',
  '/main',
  'a/',
  'a//b',
  'a/.',
  'a/..',
  'a/../b',
  'a/.hidden',
  'A/main',
  'a/Main',
  'a b/main',
  'a,b/main',
  'a+b/main',
  '-a/main',
  'a-/main',
  'a..b/main',
  'https://a/main',
  'a:80/main',
  'a/m\u0430in',
  'a/main\n',
  'a/b\0',
  `a/${'x'.repeat(127)}`,
]) {
  test(`refuses the feed name ${JSON.stringify(name.slice(0, 40))}`, () => {
    assert.throws(() => parseFeedName(name), FeedFormatError)
  })
}
