import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import type { ExplainReport } from '../../src/operations/explain.ts'
import { tempDir } from '../kit/temp.ts'
import { CID, fakeOperations, NAR_HASH, serveAdmin, STORE_PATH, world } from './kit.ts'

const OLD = STORE_PATH.replace('7c5z', '0c5z')
const UPSTREAM = 'upstream:https://cache.nixos.org'
const REPORT: ExplainReport = {
  version: 1,
  path: STORE_PATH,
  answers: [
    { source: 'table', outcome: 'told' },
    { source: 'store', outcome: 'miss' },
    { source: UPSTREAM, outcome: 'told' },
    { source: 'upstream:https://a.example', outcome: 'resting' },
    { source: 'upstream:https://b.example', outcome: 'failed', reason: 'no answer within 3000 ms' },
    { source: 'neighbour:12D3KooWPeer', outcome: 'refused', reason: 'it carries no signature' },
  ],
  nar: { nar_hash: `sha256:${NAR_HASH}`, nar_size: 3 * 2 ** 20, references: 4, keys: ['cache.nixos.org-1'] },
  here: { spool: false, store: 'no' },
  older_paths: {
    state: 'looked-for',
    paths: [
      {
        path: OLD,
        nar_size: 3 * 2 ** 20,
        outcome: 'wrong',
        references: { paired: 4, of: 4 },
        leaves: { right: 2, of: 3 },
        took_ms: 12,
      },
      {
        path: OLD,
        nar_size: 3 * 2 ** 20,
        outcome: 'unpaired',
        references: { paired: 3, of: 4 },
        took_ms: 0,
        has_failed: true,
      },
      { path: OLD, nar_size: 2 ** 20, outcome: 'other-size' },
      { path: OLD, nar_size: 2 ** 20, outcome: 'other-name' },
    ],
  },
  ways: [
    { way: 'blocks', source: 'feed:x', root: CID, peers: ['http:http://10.0.0.2'], state: 'usable' },
    { way: 'stream', source: UPSTREAM, state: 'last-resort', bytes_per_second: 2 ** 20 },
    { way: 'blocks', source: 'table', root: CID, peers: [], state: 'nobody' },
  ],
  now: 'blocks',
}

async function printed(t: TestContext, report: ExplainReport, ...options: string[]): Promise<string> {
  const stateDir = await tempDir(t)
  const asked: string[] = []
  const explain = async (path: string): Promise<ExplainReport> => {
    asked.push(path)
    return report
  }
  await serveAdmin(t, join(stateDir, 'admin.sock'), fakeOperations({ explain }))
  const it = world({ stateDir })
  assert.equal(await it.run('explain', ...options, `${STORE_PATH}/bin/hello`), 0)
  assert.deepEqual(asked, [STORE_PATH])
  assert.equal(it.stderr(), '')
  return it.stdout()
}

test('explain prints what is known, what older paths give, and what would be done', async (t) => {
  assert.equal(
    await printed(t, REPORT),
    `${STORE_PATH}
NAR          sha256:${NAR_HASH}, 3.0 MiB, 4 references
signed by    cache.nixos.org-1
told by      this narswarm, which gave it before
             ${UPSTREAM}
not told by  the Nix store: does not have it
             upstream:https://a.example: failed lately, and was not asked
             upstream:https://b.example: failed: no answer within 3000 ms
             neighbour:12D3KooWPeer: not believed: it carries no signature
here         neither in the Nix store nor in the spool
older paths  ${OLD}: gives another NAR; 4 of 4 references paired; 2 of 3 blocks right; 12 ms
             ${OLD}: cannot give the whole; 3 of 4 references paired; 0 ms; failed within the last hour, so not tried again yet
             ${OLD}: another size, 1.0 MiB
             ${OLD}: another name, 1.0 MiB
ways         blocks of ${CID}, told by feed:x, from http:http://10.0.0.2
             ${UPSTREAM}; 1.0 MiB a second of late; failed lately, so tried last
             blocks of ${CID}, told by this narswarm, which gave it before, no peer to ask
now          block by block, from peers
`,
  )
})

test('explain --json prints the report as it is', async (t) => {
  assert.deepEqual(JSON.parse(await printed(t, REPORT, '--json')), REPORT)
})

const SAID: [title: string, changes: Partial<ExplainReport>, said: RegExp][] = [
  ['older paths are off', { older_paths: { state: 'off', paths: [] } }, /upgrade\.rewrite is off/],
  ['there is no store', { older_paths: { state: 'no-store', paths: [] } }, /there is no Nix store here/],
  [
    'there is no relative',
    { older_paths: { state: 'looked-for', paths: [] } },
    /none here has its name and size/,
  ],
  ['it is here', { here: { spool: true, store: 'yes' }, now: 'spool' }, /now +as it lies in the spool/],
  [
    'an older path gives it',
    {
      older_paths: { state: 'looked-for', paths: [{ path: OLD, nar_size: 1, outcome: 'right', took_ms: 1 }] },
      now: 'rewritten',
    },
    new RegExp(`made of ${OLD}: nobody has to send a byte`),
  ],
  [
    'a relay would be asked',
    { now: UPSTREAM, relay: { sources: ['neighbour:http://10.0.0.9'], older: OLD } },
    new RegExp(`relay +neighbour:http://10\\.0\\.0\\.9: asked for the difference from ${OLD}`),
  ],
]
for (const [title, changes, said] of SAID) {
  test(`explain says that ${title}`, async (t) => {
    assert.match(await printed(t, { ...REPORT, ...changes }), said)
  })
}

test('explain says that nobody gives the bytes', async (t) => {
  const { now: _, ...rest } = REPORT
  assert.match(await printed(t, rest), /now +404: nobody gives its bytes/)
})

test('explain says that nobody knows a path, and that nobody trusted signed it', async (t) => {
  const unknown: ExplainReport = {
    version: 1,
    path: STORE_PATH,
    answers: [{ source: UPSTREAM, outcome: 'miss' }],
  }
  assert.equal(
    await printed(t, unknown),
    `${STORE_PATH}
narinfo  known to nobody who was asked
asked    ${UPSTREAM}: does not have it
now      404: Nix takes its next substituter, or builds it
`,
  )
  const unsigned: ExplainReport = {
    ...unknown,
    answers: [{ source: UPSTREAM, outcome: 'refused', reason: 'it carries no signature' }],
  }
  assert.match(await printed(t, unsigned), /told, and not signed by a trusted key\n.*it carries no signature/)
})
