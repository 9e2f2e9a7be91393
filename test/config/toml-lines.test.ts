import assert from 'node:assert/strict'
import { test } from 'node:test'
import { lineOf, linesOf } from '../../src/config/toml-lines.ts'

const TEXT = `# a comment = no key
profile = "lan"

[cache]
listen = "127.0.0.1:1"
"priority" = 3
trust.threshold = 2

[[feed]]
name = "a"
[[ feed ]]
name = "b"
sources = [
  "https://x",
]
`

for (const [path, line] of [
  ['profile', 2],
  ['cache', 4],
  ['cache.listen', 5],
  ['cache.priority', 6],
  ['cache.trust.threshold', 7],
  ['feed.0.name', 10],
  ['feed.1.name', 12],
  ['feed.1.sources.0', 13],
  ['feed.1.missing', 11],
  ['missing', undefined],
] as const) {
  void test(`${path} is in line ${line}`, () => assert.equal(lineOf(linesOf(TEXT), path.split('.')), line))
}
