import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdir, readFile, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { test } from 'node:test'
import { parseSecretKey } from '../../src/nix/key.ts'
import { RequestError } from '../../src/operations/operations.ts'
import type {
  AuditEvent,
  AuditRequest,
  PublishEvent,
  PublishRequest,
} from '../../src/operations/operations.ts'
import type { FeedsReport } from '../../src/operations/feeds-report.ts'
import { haveNix } from '../kit/nix.ts'
import type { NarHash } from '../../src/nix/hash.ts'
import type { GcReport, GcRequest } from '../../src/spool/keeper.ts'
import { tempDir } from '../kit/temp.ts'
import type { PeersReport } from '../../src/operations/peers.ts'
import { CID, fakeOperations, NAR_HASH, serveAdmin, STATUS, STORE_PATH, world } from './kit.ts'

const FEED = 'a.example/b'
const EVENTS = [
  { kind: 'item', path: 'aaa-lib', narSize: 120, outcome: 'published', cid: CID },
  { kind: 'item', path: 'bbb-secret', narSize: 9, outcome: 'skipped', reason: 'no signature by a share key' },
  { kind: 'item', path: 'ccc-app', narSize: 2_097_152, outcome: 'published', cid: CID },
  { kind: 'done', feed: FEED, added: 2, size: 5 },
] as unknown as PublishEvent[]

function publishing(requests: PublishRequest[], events: readonly PublishEvent[] = EVENTS) {
  return fakeOperations({
    async *publish(request) {
      await Promise.resolve()
      requests.push(request)
      yield* events
    },
  })
}

const FEEDS = {
  published: [
    {
      name: FEED,
      origin: 'narswarm/a.example/b/1',
      size: 5,
      root_hash: 'x',
      signed_at: '2026-01-01T00:00:00Z',
      root_keys: ['a.example/b/root+1234+key'],
      root_version: 1,
      expires: '2030-03-17T17:46:40Z',
    },
  ],
  followed: [
    {
      name: 'c.example/d',
      root_key: 'k',
      state: 'fresh',
      size: 12,
      signed_at: '2026-01-01T00:00:00Z',
      problems: ['10.0.0.2: no answer'],
    },
    { name: 'new.example/x', root_key: 'k', state: 'never-synced', size: 0, problems: [] },
  ],
} as unknown as FeedsReport

test('status prints a table of what runs', async (t) => {
  const stateDir = await tempDir(t)
  await serveAdmin(
    t,
    join(stateDir, 'admin.sock'),
    fakeOperations({ status: async () => ({ ...STATUS, feeds: FEEDS }) }),
  )
  const it = world({ stateDir })
  assert.equal(await it.run('status'), 0)
  assert.equal(
    it.stdout(),
    `narswarm          0.0.0-test, profile pool, since 2026-01-02T03:04:05Z
cache             http://127.0.0.1:6277 (priority 30)
listens to peers  http://127.0.0.1:6278
                  /ip4/127.0.0.1/tcp/6279/p2p/12D3KooWPeer
trusts            cache.nixos.org-1
shares            what is signed by cache.nixos.org-1
gave others       3.0 MiB, at most 20.0 MiB a second
                  10.0.0.3 was over its budget: 2 requests refused
asks upstreams    https://cache.nixos.org/ (nix.conf)
                  https://down.example/ (nix.conf), left alone until 2026-01-02T03:05:05Z: ECONNREFUSED
                  https://guix.example/ (nix.conf), not used: for another store
asks peers        none
spool             1 NAR, 1.2 MiB of 20.0 GiB
                  2 parts of NARs, 4.0 KiB
                  keeps 4.0 GiB of the disk free; 50.0 GiB free
                  evicted 3, 1.0 MiB
out of the store  40 paths by CID, 1.0 MiB; 2 NARs, 3.0 MiB to go
transfers         0 running
NARs              3 made of older paths, 12.0 MiB
                  1 from upstreams, 10.0 MiB
fetched           50.0 MiB of 60.0 MiB came from neighbours; upstreams sent 10.0 MiB
                  12.0 MiB nobody had to send
                  50.0 MiB by neighbour:12D3KooWPeer
blocks            50.0 MiB got, 15.0 MiB on the wire
                  1.0 MiB given over HTTP
audits            off (audit.max_bytes_per_day)

SOURCE                                GAVE  A BLOCK  FAULTS  LIES  STATE
upstream:https://cache.nixos.org       0 B        -       2     0  left alone for now
http:http://10.0.0.2:6278         50.0 MiB    12 ms       0     0  in use

PUBLISHED FEED  ENTRIES  SIGNED                ROOT KEY
a.example/b           5  2026-01-01T00:00:00Z  a.example/b/root+1234+key

FOLLOWED FEED  STATE         ENTRIES  SIGNED                LAST ASKED
c.example/d    fresh              12  2026-01-01T00:00:00Z  -
new.example/x  never-synced        0  -                     -
`,
  )
  assert.equal(it.stderr(), 'narswarm: feed c.example/d: 10.0.0.2: no answer\n')

  const json = world({ stateDir })
  assert.equal(await json.run('status', '--json'), 0)
  assert.deepEqual(JSON.parse(json.stdout()), { ...STATUS, feeds: FEEDS })
})

test('status without a running narswarm exits with 4 and opens none', async (t) => {
  const it = world({ stateDir: await tempDir(t) })
  assert.equal(await it.run('status', '--json'), 4)
  assert.match(it.stderr(), /^narswarm: no narswarm runs at .*admin\.sock; start it: narswarm serve\n$/)
  assert.equal(it.stdout(), '')
  assert.equal(it.node.opened, 0)
})

test('an operation is done by the narswarm that runs, else in this process', async (t) => {
  const stateDir = await tempDir(t)
  const operations = fakeOperations({ createFeed: async (name) => ({ name, rootKey: 'here' }) })
  const alone = world({ stateDir, operations })
  assert.equal(await alone.run('feed', 'create', FEED, '--json'), 0)
  assert.deepEqual(JSON.parse(alone.stdout()), { version: 1, name: FEED, root_key: 'here' })
  assert.deepEqual(alone.node, { opened: 1, closed: [0] })

  const there = fakeOperations({ createFeed: async (name) => ({ name, rootKey: 'there' }) })
  await serveAdmin(t, join(stateDir, 'admin.sock'), there)
  const client = world({ stateDir, operations })
  assert.equal(await client.run('feed', 'create', FEED, '--json'), 0)
  assert.deepEqual(JSON.parse(client.stdout()), { version: 1, name: FEED, root_key: 'there' })
  assert.equal(client.node.opened, 0)
})

test('--state-dir names the narswarm that is asked', async (t) => {
  const stateDir = await tempDir(t)
  await serveAdmin(t, join(stateDir, 'admin.sock'), fakeOperations())
  const it = world({ stateDir: '/nowhere' })
  assert.equal(await it.run('status', '--state-dir', stateDir), 0)
})

test('feed create prints what followers need', async (t) => {
  const operations = fakeOperations({ createFeed: async (name) => ({ name, rootKey: 'root+1+k' }) })
  const it = world({ stateDir: await tempDir(t), operations })
  assert.equal(await it.run('feed', 'create', FEED), 0)
  assert.equal(
    it.stdout(),
    `[[feed]]\nname = "${FEED}"\nroot_key = "root+1+k"\nsources = ["http://THIS-MACHINE:6278/feed/${FEED}"]\n`,
  )
  assert.match(it.stderr(), /profile private has no peer listener/)
})

test('feed status lists, and says when there is nothing to list', async (t) => {
  const stateDir = await tempDir(t)
  const empty = world({ stateDir })
  assert.equal(await empty.run('feed', 'status'), 0)
  assert.equal(empty.stdout(), '')
  assert.match(empty.stderr(), /^no feed is published or followed here/)
  const json = world({ stateDir, operations: fakeOperations({ feeds: async () => FEEDS }) })
  assert.equal(await json.run('feed', 'status', '--json'), 0)
  assert.deepEqual(JSON.parse(json.stdout()), { version: 1, ...FEEDS })
})

test('a forked feed is shouted about', async (t) => {
  const fork = { ours: 'a', theirs: 'b', source: 'http://10.0.0.2', found_at: '2026-01-01T00:00:00Z' }
  const followed = [
    { name: 'c.example/d', root_key: 'k', state: 'forked' as const, size: 1, problems: [], fork },
  ]
  const operations = fakeOperations({
    feeds: async () => ({ published: [], followed }),
  })
  const it = world({ stateDir: await tempDir(t), operations })
  assert.equal(await it.run('feed', 'status'), 0)
  assert.match(it.stderr(), /c\.example\/d: FORKED.*http:\/\/10\.0\.0\.2, 2026-01-01T00:00:00Z/)
})

test('publish prints a line an item, skipped ones and the sum on stderr', async (t) => {
  const requests: PublishRequest[] = []
  const it = world({ stateDir: await tempDir(t), operations: publishing(requests) })
  assert.equal(await it.run('publish', '--feed', FEED, STORE_PATH), 0)
  assert.deepEqual(requests, [{ feed: FEED, dryRun: false, paths: [STORE_PATH] }])
  assert.equal(it.stdout(), `aaa-lib  120 B  ${CID}\nccc-app  2.0 MiB  ${CID}\n`)
  assert.equal(
    it.stderr(),
    `skipped bbb-secret: no signature by a share key\npublished 2 paths, 2.0 MiB; skipped 1; feed ${FEED} has 5 entries, 2 of them new\n`,
  )
})

test('publish on a terminal: one line that follows the work, and the sum', async (t) => {
  const it = world({ stateDir: await tempDir(t), operations: publishing([]), tty: true })
  assert.equal(await it.run('publish', '--feed', FEED, STORE_PATH), 0)
  assert.equal(it.stdout(), '')
  // What a terminal shows in the end: of each line what stands after its last return to the left.
  const left = it
    .stderr()
    .split('\n')
    .map((line) => line.split('\r\u001b[K').at(-1))
  assert.deepEqual(left, [
    'skipped bbb-secret: no signature by a share key',
    `published 2 paths, 2.0 MiB; skipped 1; feed ${FEED} has 5 entries, 2 of them new`,
    '',
  ])
  assert.match(it.stderr(), /\[K2 paths, 2\.0 MiB, last ccc-app/)
})

test('publish --dry-run lists on stdout, on a terminal too', async (t) => {
  const requests: PublishRequest[] = []
  const events = [
    { kind: 'item', path: 'aaa-lib', narSize: 120, outcome: 'would-publish' },
    { kind: 'done', feed: FEED, added: 0, size: 3 },
  ] as unknown as PublishEvent[]
  const it = world({ stateDir: await tempDir(t), operations: publishing(requests, events), tty: true })
  assert.equal(await it.run('publish', '--feed', FEED, '--dry-run', STORE_PATH), 0)
  assert.equal(requests[0]?.dryRun, true)
  assert.equal(it.stdout(), 'aaa-lib  120 B\n')
  assert.match(it.stderr(), /would publish 1 path, 120 B\n$/)
})

test('publish --json prints JSON lines and nothing else', async (t) => {
  const it = world({ stateDir: await tempDir(t), operations: publishing([]) })
  assert.equal(await it.run('publish', '--feed', FEED, '--json', STORE_PATH), 0)
  const lines = it.stdout().trimEnd().split('\n')
  assert.deepEqual(JSON.parse(lines[0] ?? ''), {
    kind: 'item',
    path: 'aaa-lib',
    nar_size: 120,
    outcome: 'published',
    cid: CID,
  })
  assert.deepEqual(JSON.parse(lines[3] ?? ''), EVENTS[3])
  assert.equal(it.stderr(), '')
})

test('publish takes paths as Nix does, and folders from here', async (t) => {
  const dir = await tempDir(t)
  const storeDir = join(dir, 'store')
  const inStore = join(storeDir, '7c5zrpajq5ydlg2zbbnfs1l4lwbxsdqq-hello-2.12')
  await mkdir(join(inStore, 'bin'), { recursive: true })
  await symlink(inStore, join(dir, 'result'))
  const cases: { argv: string[]; stdin?: string; paths: string[]; from?: string }[] = [
    { argv: [join(dir, 'result')], paths: [inStore] },
    { argv: [join(inStore, 'bin/hello')], paths: [inStore] },
    { argv: ['7c5zrpajq5ydlg2zbbnfs1l4lwbxsdqq'], paths: ['7c5zrpajq5ydlg2zbbnfs1l4lwbxsdqq'] },
    { argv: ['/elsewhere/x'], paths: ['/elsewhere/x'] },
    { argv: ['--stdin', 'a'], stdin: `\n${inStore}\r\n  b \n`, paths: ['a', inStore, 'b'] },
    { argv: ['--from', 'cache'], paths: [], from: '/work/cache' },
    { argv: ['--from', 'https://cache.example.org'], paths: [], from: 'https://cache.example.org' },
  ]
  for (const { argv, stdin, paths, from } of cases) {
    await t.test(argv.join(' ').replace(dir, '…'), async () => {
      const requests: PublishRequest[] = []
      const it = world({
        stateDir: join(dir, 'state'),
        operations: publishing(requests),
        env: { NARSWARM_STORE_DIR: storeDir },
        ...(stdin === undefined ? {} : { stdin: Readable.from([Buffer.from(stdin)]) }),
      })
      assert.equal(await it.run('publish', '--feed', FEED, ...argv), 0)
      assert.deepEqual(requests, [
        { feed: FEED, dryRun: false, paths, ...(from === undefined ? {} : { from }) },
      ])
    })
  }
})

test('publish --stdin with nothing there publishes nothing, not a whole cache', async (t) => {
  const it = world({
    stateDir: await tempDir(t),
    operations: publishing([]),
    stdin: Readable.from([Buffer.from('\n')]),
  })
  assert.equal(await it.run('publish', '--feed', FEED, '--from', '/cache', '--stdin'), 2)
  assert.equal(it.node.opened, 0)
})

test('publish --stdin is stopped by a signal while it waits, and by too much', async (t) => {
  const waiting = world({
    stateDir: await tempDir(t),
    stdin: new Readable({ read: () => waiting.signal('SIGINT') }),
  })
  assert.equal(await waiting.run('publish', '--feed', FEED, '--stdin'), 130)

  const chunk = Buffer.alloc(1_048_576, 'x')
  const endless = new Readable({ read: () => void endless.push(chunk) })
  const flooded = world({ stateDir: await tempDir(t), stdin: endless })
  assert.equal(await flooded.run('publish', '--feed', FEED, '--stdin'), 2)
  assert.match(flooded.stderr(), /expected at most \d+ bytes of paths on stdin/)
})

test('verify says what was proved', async (t) => {
  const stateDir = await tempDir(t)
  const report = { path: STORE_PATH, narHash: NAR_HASH, narSize: 2048, keys: ['k-1', 'k-2'], cid: CID }
  const good = world({ stateDir, operations: fakeOperations({ verify: async () => report }) })
  assert.equal(await good.run('verify', STORE_PATH), 0)
  assert.equal(
    good.stdout(),
    `${STORE_PATH}: good\n  NarHash    sha256:${NAR_HASH} (2.0 KiB)\n  signed by  k-1, k-2\n  CID        ${CID}\n`,
  )
  assert.equal(good.stderr(), '')

  const lied = world({
    stateDir,
    operations: fakeOperations({ verify: async () => ({ ...report, wrongCid: 'bafylie' }) }),
  })
  assert.equal(await lied.run('verify', STORE_PATH, '--json'), 0)
  assert.deepEqual(JSON.parse(lied.stdout()), {
    version: 1,
    path: STORE_PATH,
    nar_hash: `sha256:${NAR_HASH}`,
    nar_size: 2048,
    keys: ['k-1', 'k-2'],
    cid: CID,
    wrong_cid: 'bafylie',
  })
  assert.match(lied.stderr(), /told another CID of it, bafylie/)
})

const AUDITED = {
  kind: 'item',
  feed: FEED,
  position: 4,
  path: STORE_PATH,
  narHash: NAR_HASH,
  narSize: 2_097_152,
  told: 'bafytold',
  fetchedBytes: 2_097_152,
} as const
const AUDIT_DONE = {
  kind: 'done',
  feed: FEED,
  right: 1,
  wrong: 0,
  unavailable: 0,
  untrusted: 0,
  fetchedBytes: 7,
} as const

function auditing(requests: AuditRequest[], events: readonly object[]) {
  return fakeOperations({
    async *verifyFeed(request) {
      await Promise.resolve()
      requests.push(request)
      yield* events as AuditEvent[]
    },
  })
}

test('verify --feed prints a row an entry, and exits with 3 when a CID was wrong', async (t) => {
  const requests: AuditRequest[] = []
  const stateDir = await tempDir(t)
  const events = [
    { ...AUDITED, outcome: 'right' },
    { ...AUDITED, outcome: 'wrong', computed: 'bafyreal', reason: 'the NAR has CID bafyreal' },
    { ...AUDITED, outcome: 'untrusted', reason: 'nobody signed it' },
    { ...AUDIT_DONE, wrong: 1, untrusted: 1 },
  ]
  // Over the socket of one that runs, as most people will.
  await serveAdmin(t, join(stateDir, 'admin.sock'), auditing(requests, events))
  const it = world({ stateDir })
  assert.equal(await it.run('verify', '--feed', FEED, '--all'), 3)
  assert.deepEqual(requests, [{ feed: FEED, sample: 'all' }])
  assert.equal(
    it.stdout(),
    `right        ${STORE_PATH}  2.0 MiB
WRONG        ${STORE_PATH}  2.0 MiB  told bafytold, is bafyreal
untrusted    ${STORE_PATH}  2.0 MiB  nobody signed it
`,
  )
  assert.equal(
    it.stderr(),
    `feed ${FEED}: 1 right, 1 wrong, 0 not to be had, 1 signed by nobody trusted; 7 B fetched\nnarswarm: 1 wrong CID told by feed ${FEED}\n`,
  )

  const json = world({ stateDir })
  assert.equal(await json.run('verify', '--feed', FEED, '--sample', '3', '--json'), 3)
  assert.deepEqual(requests[1], { feed: FEED, sample: 3 })
  const lines = json
    .stdout()
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as object)
  assert.equal(lines.length, 4)
  assert.deepEqual(lines[1], {
    kind: 'item',
    feed: FEED,
    position: 4,
    path: STORE_PATH,
    told: 'bafytold',
    outcome: 'wrong',
    computed: 'bafyreal',
    reason: 'the NAR has CID bafyreal',
    nar_hash: `sha256:${NAR_HASH}`,
    nar_size: 2_097_152,
    fetched_bytes: 2_097_152,
  })
})

for (const { title, done, exit } of [
  { title: 'nothing wrong exits with 0', done: AUDIT_DONE, exit: 0 },
  { title: 'some bytes not to be had exit with 0', done: { ...AUDIT_DONE, unavailable: 3 }, exit: 0 },
  { title: 'no bytes at all exit with 4', done: { ...AUDIT_DONE, right: 0, unavailable: 3 }, exit: 4 },
]) {
  test(`verify --feed: ${title}`, async (t) => {
    const it = world({ stateDir: await tempDir(t), operations: auditing([], [done]) })
    assert.equal(await it.run('verify', '--feed', FEED), exit)
  })
}

test('status names the CIDs that were proved wrong, and what audits cost', async (t) => {
  const stateDir = await tempDir(t)
  const audit = {
    max_bytes_per_day: 1_073_741_824,
    bytes_today: 5_242_880,
    right: 4,
    wrong: 1,
    unavailable: 2,
    untrusted: 0,
    bad_count: 1,
    bad: [
      {
        feed: FEED,
        path: STORE_PATH,
        nar_hash: NAR_HASH,
        told: 'bafytold',
        computed: 'bafyreal',
        found_at: '2026-01-02T03:04:05Z',
      },
    ],
  }
  await serveAdmin(
    t,
    join(stateDir, 'admin.sock'),
    fakeOperations({ status: async () => ({ ...STATUS, audit }) }),
  )
  const it = world({ stateDir })
  assert.equal(await it.run('status'), 0)
  assert.match(
    it.stdout(),
    /audits {12}5\.0 MiB of 1\.0 GiB a day\n +4 right, 1 wrong, 2 not to be had, 0 signed by nobody trusted, in 30 days\n +1 CID told by feeds proved wrong/,
  )
  assert.equal(
    it.stderr(),
    `narswarm: feed ${FEED}: WRONG about ${STORE_PATH}: told bafytold, its NAR has bafyreal (2026-01-02T03:04:05Z)\n`,
  )
})

test('status says what a relay has fetched for others', async (t) => {
  const stateDir = await tempDir(t)
  const relay = { max_bytes_per_day: 53_687_091_200, bytes_today: 5_242_880, nars: 2, under_way: 0 }
  const operations = fakeOperations({ status: async () => ({ ...STATUS, relay }) })
  await serveAdmin(t, join(stateDir, 'admin.sock'), operations)
  const it = world({ stateDir })
  assert.equal(await it.run('status'), 0)
  assert.match(it.stdout(), /^relay +fetched 2 NARs for others; 5\.0 MiB of 50\.0 GiB a day$/m)
})

test('serve tells what to put into nix.conf, and stops cleanly at a signal', async (t) => {
  const stateDir = await tempDir(t)
  const cases: { title: string; files: Record<string, string>; says: RegExp }[] = [
    { title: 'no configuration', files: {}, says: /No key is to be added/ },
    {
      title: 'keys of nix.conf',
      files: {
        '/etc/nix/nix.conf':
          'trusted-public-keys = cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=',
      },
      says: /No key is to be added/,
    },
    {
      title: 'keys of its own configuration',
      files: {
        '/etc/narswarm/config.toml':
          '[trust]\nkeys = ["cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="]',
      },
      says: /Nix itself must trust those of trust\.keys \(cache\.nixos\.org-1\)/,
    },
  ]
  for (const { title, files, says } of cases) {
    await t.test(title, async () => {
      const it = world({
        stateDir,
        files,
        async serve() {
          setImmediate(() => it.signal('SIGTERM'))
          return { cacheUrl: 'http://127.0.0.1:7000' }
        },
      })
      assert.equal(await it.run('serve'), 0)
      assert.match(it.stdout(), /^narswarm serves http:\/\/127\.0\.0\.1:7000 \(profile private\)\n/)
      assert.match(it.stdout(), /^extra-substituters = http:\/\/127\.0\.0\.1:7000\n/m)
      assert.match(it.stdout(), says)
      assert.deepEqual(it.node.closed, [10_000])
    })
  }
})

test('serve that cannot listen says why, and gives the state directory back', async (t) => {
  const it = world({
    stateDir: await tempDir(t),
    serve: () => Promise.reject(new Error('cannot listen on 127.0.0.1:6277: in use')),
  })
  assert.equal(await it.run('serve'), 1)
  assert.equal(it.stderr(), 'narswarm: cannot listen on 127.0.0.1:6277: in use\n')
  assert.equal(it.node.closed.length, 1)
})

test('keygen writes a secret that only its owner reads, and never over a file', async (t) => {
  const dir = await tempDir(t)
  const file = join(dir, 'k.secret')
  const it = world({ stateDir: dir })
  assert.equal(await it.run('keygen', 'cache.example-1', '--out', file), 0)
  const text = await readFile(file, 'utf8')
  const key = parseSecretKey(text)
  assert.equal((await stat(file)).mode & 0o777, 0o400)
  assert.equal(it.stdout(), `cache.example-1:${Buffer.from(key.publicKey.bytes).toString('base64')}\n`)
  assert.ok(!it.stderr().includes(text.split(':')[1] ?? ''), 'the secret is shown')

  const again = world({ stateDir: dir })
  assert.equal(await again.run('keygen', 'cache.example-1', '--out', file), 1)
  assert.match(again.stderr(), /^narswarm: .*k\.secret/)
  assert.equal(await readFile(file, 'utf8'), text)
  await writeFile(join(dir, 'target'), '')
  await symlink(join(dir, 'target'), join(dir, 'link'))
  assert.equal(await again.run('keygen', 'cache.example-1', '--out', join(dir, 'link')), 1)
  assert.equal(await readFile(join(dir, 'target'), 'utf8'), '')
})

test("Nix signs with keygen's key", { skip: haveNix() ? false : 'no nix-store on PATH' }, async (t) => {
  const dir = await tempDir(t)
  const file = join(dir, 'k.secret')
  const it = world({ stateDir: dir })
  await it.run('keygen', 'cache.example-1', '--out', file)
  const made = spawnSync(
    'nix',
    ['--extra-experimental-features', 'nix-command', 'key', 'convert-secret-to-public'],
    {
      input: await readFile(file),
      encoding: 'utf8',
      env: { ...process.env, HOME: dir },
    },
  )
  assert.equal(made.stdout.trim(), it.stdout().trim(), made.stderr)
})

test('check-config prints values and where they came from', async (t) => {
  const stateDir = await tempDir(t)
  const toml = `
profile = "pool"
upstreams = ["https://cache.example.org", "https://cache.nixos.org"]
[peers]
urls = ["http://10.0.0.2:6278"]
[upgrade]
relay = true
`
  const env = { NARSWARM_CACHE_LISTEN: '127.0.0.1:7000' }
  const it = world({ stateDir, env, files: { '/c.toml': toml } })
  assert.equal(await it.run('check-config', '/c.toml'), 0)
  const table = it.stdout()
  assert.match(table, /^profile +pool +file$/m)
  assert.match(table, /^cache\.listen +127\.0\.0\.1:7000 +environment$/m)
  assert.match(table, /^upgrade\.relay +true +file$/m)
  assert.match(table, /^upgrade\.relay_max_bytes_per_day +53687091200 +default$/m)
  assert.match(table, /^store_dir +\/nix\/store +default$/m)
  assert.match(table, /^upstreams +https:\/\/cache\.example\.org\/ +file\n +https:\/\/cache\.nixos\.org\/\n/m)
  assert.match(it.stderr(), /warning: profile pool without share\.keys/)
  assert.equal(it.node.opened, 0)

  const json = world({ stateDir, env, files: { '/c.toml': toml } })
  assert.equal(await json.run('check-config', '/c.toml', '--json'), 0)
  const document = JSON.parse(json.stdout()) as {
    settings: { key: string; value: unknown; origin: string }[]
  }
  assert.deepEqual(
    document.settings.find(({ key }) => key === 'peers.urls'),
    { key: 'peers.urls', value: ['http://10.0.0.2:6278/'], origin: 'file' },
  )
})

test('check-config names every problem and exits with 2', async (t) => {
  const files = { '/c.toml': 'profil = "pool"\n[cache]\npriority = "low"\n' }
  const it = world({ stateDir: await tempDir(t), files })
  assert.equal(await it.run('check-config', '/c.toml', '--json'), 2)
  const { valid, problems } = JSON.parse(it.stdout()) as { valid: boolean; problems: string[] }
  assert.equal(valid, false)
  assert.equal(problems.length, 2)
  assert.match(it.stderr(), /^narswarm: configuration \/c\.toml: .*profil.*\n$/)
})

const GC_REPORT: GcReport = {
  dryRun: false,
  items: [
    { narHash: NAR_HASH as NarHash, kind: 'nar', bytes: 2048, reason: 'imported' },
    { narHash: NAR_HASH as NarHash, kind: 'part', bytes: 1024, reason: 'expired' },
  ],
  count: 3,
  freedBytes: 4096,
  leftBytes: 512,
}

test('gc tells what went, here and through the socket of the narswarm that runs', async (t) => {
  const stateDir = await tempDir(t)
  const requests: GcRequest[] = []
  const operations = fakeOperations({
    async gc(request) {
      requests.push(request)
      return { ...GC_REPORT, dryRun: request.dryRun }
    },
  })
  const alone = world({ stateDir, operations })
  assert.equal(await alone.run('gc'), 0)
  assert.equal(
    alone.stdout(),
    `nar  sha256:${NAR_HASH}  2.0 KiB  the Nix store has it\n` +
      `part  sha256:${NAR_HASH}  1.0 KiB  a part that nobody went on with\n`,
  )
  assert.equal(alone.stderr(), 'and 1 more\nfreed 4.0 KiB (3 files); 512 B stay\n')
  assert.deepEqual(alone.node.closed, [0])

  await serveAdmin(t, join(stateDir, 'admin.sock'), operations)
  const remote = world({ stateDir })
  assert.equal(await remote.run('gc', '--dry-run', '--max-size', '1.5MiB', '--json'), 0)
  assert.equal(remote.node.opened, 0)
  assert.deepEqual(requests, [{ dryRun: false }, { dryRun: true, maxBytes: 1_572_864 }])
  assert.deepEqual(JSON.parse(remote.stdout()), {
    version: 1,
    dry_run: true,
    items: [
      { nar_hash: `sha256:${NAR_HASH}`, kind: 'nar', bytes: 2048, reason: 'imported' },
      { nar_hash: `sha256:${NAR_HASH}`, kind: 'part', bytes: 1024, reason: 'expired' },
    ],
    count: 3,
    freed_bytes: 4096,
    left_bytes: 512,
  })
})

test('verify --spool exits with 3 when something was wrong, and names it', async (t) => {
  const stateDir = await tempDir(t)
  const bad = [{ narHash: NAR_HASH as NarHash, what: 'bytes' as const, reason: 'its bytes hash to x' }]
  const operations = fakeOperations({ verifySpool: async () => ({ nars: 2, bytes: 4096, bad }) })
  const alone = world({ stateDir, operations })
  assert.equal(await alone.run('verify', '--spool'), 3)
  assert.equal(alone.stdout(), `sha256:${NAR_HASH}: removed: its bytes hash to x\n`)
  assert.equal(alone.stderr(), 'narswarm: 1 of 2 NARs in the spool were not as they should be\n')

  await serveAdmin(t, join(stateDir, 'admin.sock'), operations)
  const remote = world({ stateDir })
  assert.equal(await remote.run('verify', '--spool', '--json'), 3)
  assert.deepEqual((JSON.parse(remote.stdout()) as { bad: unknown }).bad, [
    { nar_hash: `sha256:${NAR_HASH}`, what: 'bytes', reason: 'its bytes hash to x' },
  ])

  const good = world({
    stateDir: await tempDir(t),
    operations: fakeOperations({ verifySpool: async () => ({ nars: 2, bytes: 4096, bad: [] }) }),
  })
  assert.equal(await good.run('verify', '--spool'), 0)
  assert.equal(good.stdout(), 'spool: 2 NARs, 4.0 KiB: good\n')
})

test('peer list shows who is near and why one is not asked, here and through the socket', async (t) => {
  const stateDir = await tempDir(t)
  const since = '2026-01-02T03:04:05Z'
  const url = 'http://10.0.0.2:6278/'
  const report: PeersReport = {
    version: 1,
    peers: [
      {
        id: 'narswarm:a',
        kind: 'narswarm',
        url,
        from: 'mdns',
        state: 'ok',
        since,
        seen: since,
        latency_ms: 1.2,
      },
      { id: 'narswarm:b', kind: 'narswarm', addr: '/ip4/…', from: 'config', state: 'unknown', since },
      {
        id: 'cache:c',
        kind: 'cache',
        url,
        from: 'added',
        state: 'resting',
        until: since,
        reason: 'refused',
        since,
      },
      {
        id: 'narswarm:d',
        kind: 'narswarm',
        url,
        from: 'mdns',
        state: 'out',
        until: since,
        reason: 'leaf 3',
        since,
      },
      { id: 'narswarm:e', kind: 'narswarm', from: 'mdns', state: 'banned', reason: '', since },
      { id: 'cache:f', kind: 'narswarm', url, from: 'config', state: 'ok', since, relay: true },
    ],
  }
  const operations = fakeOperations({ peers: () => Promise.resolve(report) })
  const alone = world({ stateDir, operations })
  assert.equal(await alone.run('peer', 'list'), 0)
  assert.equal(
    alone.stdout(),
    `NEIGHBOUR   WHERE                  FROM    ANSWERS IN  SEEN                  STATE
narswarm:a  http://10.0.0.2:6278/  mdns        1.2 ms  2026-01-02T03:04:05Z  ok
narswarm:b  /ip4/…                 config           -  never                 not reached yet
cache:c     http://10.0.0.2:6278/  added            -  never                 resting until 2026-01-02T03:04:05Z: refused
narswarm:d  http://10.0.0.2:6278/  mdns             -  never                 out until 2026-01-02T03:04:05Z: leaf 3
narswarm:e  -                      mdns             -  never                 banned
cache:f     http://10.0.0.2:6278/  config           -  never                 ok, a relay
`,
  )
  await serveAdmin(t, join(stateDir, 'admin.sock'), operations)
  const remote = world({ stateDir })
  assert.equal(await remote.run('peer', 'list', '--json'), 0)
  assert.deepEqual(JSON.parse(remote.stdout()), report)
})

test('peer list without neighbours says so', async (t) => {
  const operations = fakeOperations({ peers: () => Promise.resolve({ version: 1, peers: [] }) })
  const it = world({ stateDir: await tempDir(t), operations })
  assert.equal(await it.run('peer', 'list'), 0)
  assert.deepEqual([it.stdout(), it.stderr()], ['', 'no neighbour is known\n'])
})

test('peer add, remove, ban and unban are done by the narswarm that runs', async (t) => {
  const stateDir = await tempDir(t)
  const changes: unknown[] = []
  const operations = fakeOperations({
    async changePeer(change) {
      if (change.peer === 'x') throw new RequestError('expected something else')
      changes.push(change)
      return { id: 'cache:c' }
    },
  })
  await serveAdmin(t, join(stateDir, 'admin.sock'), operations)
  const it = world({ stateDir })
  for (const argv of [
    ['add', 'c'],
    ['remove', 'c'],
    ['ban', 'c'],
    ['ban', 'c', '--reason', 'slow'],
    ['unban', 'c'],
  ]) {
    assert.equal(await it.run('peer', ...argv), 0)
  }
  assert.deepEqual(changes, [
    { action: 'add', peer: 'c' },
    { action: 'remove', peer: 'c' },
    { action: 'ban', peer: 'c' },
    { action: 'ban', peer: 'c', reason: 'slow' },
    { action: 'unban', peer: 'c' },
  ])
  assert.equal(await it.run('peer', 'add', 'x'), 1)
  assert.match(
    it.stderr(),
    /^added cache:c\n.*no longer banned: cache:c\nnarswarm: expected something else\n$/s,
  )
  assert.equal(await it.run('peer', 'add'), 2)
})
