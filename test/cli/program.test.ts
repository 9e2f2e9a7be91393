import assert from 'node:assert/strict'
import { test } from 'node:test'
import { tempDir } from '../kit/temp.ts'
import { fakeOperations, world } from './kit.ts'
import { RequestError, VerificationError } from '../../src/operations/operations.ts'
import { NarHashMismatchError } from '../../src/substitute/errors.ts'
import { SourceFaultError } from '../../src/source.ts'

test('usage errors are told on stderr, and exit with 2', async (t) => {
  const stateDir = await tempDir(t)
  const cases: { argv: string[]; says: RegExp }[] = [
    { argv: [], says: /^Usage: narswarm/ },
    { argv: ['feed'], says: /^Usage: narswarm feed/ },
    { argv: ['statsu'], says: /^narswarm: unknown command 'statsu'\n\(Did you mean status\?\)\n$/ },
    { argv: ['status', '--jsn'], says: /^narswarm: unknown option '--jsn'\n\(Did you mean --json\?\)\n$/ },
    { argv: ['verify'], says: /^narswarm: expected one of: a store path, --spool, --feed\n$/ },
    { argv: ['verify', 'a', '--spool'], says: /expected one of/ },
    { argv: ['verify', 'a', '--feed', 'b.example/c'], says: /expected one of/ },
    { argv: ['verify', 'a', '--all'], says: /--sample and --all go with --feed\n$/ },
    { argv: ['verify', '--feed', 'a', '--all', '--sample', '3'], says: /--sample or --all, not both\n$/ },
    { argv: ['verify', '--feed', 'a', '--sample', '0'], says: /--sample: expected 1 to \d+, got "0"\n$/ },
    { argv: ['verify', '--feed', 'a', '--sample', '1e9'], says: /--sample: expected 1 to \d+, got "1e9"\n$/ },
    { argv: ['gc', '--max-size', '5GB'], says: /--max-size: expected a size such as 20GiB.*"5GB"\n$/ },
    { argv: ['verify', 'a', 'b'], says: /^narswarm: too many arguments/ },
    {
      argv: ['publish', '/nix/store/x'],
      says: /^narswarm: required option '--feed <name>' not specified\n$/,
    },
    {
      argv: ['publish', '--feed', 'a.example/b'],
      says: /^narswarm: expected store paths to publish, got none\n$/,
    },
    {
      argv: ['serve', '--profile', 'everybody'],
      says: /^narswarm: option '--profile <name>' argument 'everybody' is invalid/,
    },
    {
      argv: ['serve', '--config', '/absent.toml'],
      says: /^narswarm: configuration \/absent\.toml: expected a readable file/,
    },
    {
      argv: ['serve', '--listen', '0.0.0.0:6277'],
      says: /^narswarm: configuration .*cache\.listen: expected a loopback address/,
    },
    { argv: ['keygen', 'a b'], says: /^narswarm: secret key: expected a name/ },
    { argv: ['keygen', '../../etc/key'], says: /^narswarm: expected --out with a name that contains '\/'/ },
  ]
  for (const { argv, says } of cases) {
    await t.test(argv.join(' ') || '(nothing)', async () => {
      const it = world({ stateDir })
      assert.equal(await it.run(...argv), 2)
      assert.match(it.stderr(), says)
      assert.equal(it.stdout(), '')
      assert.equal(it.node.opened, 0)
    })
  }
})

test('help and version go to stdout, and exit with 0', async (t) => {
  const stateDir = await tempDir(t)
  const cases: { argv: string[]; says: RegExp }[] = [
    { argv: ['--help'], says: /serve .*\n(.*\n)*Exit codes: 0 done/ },
    { argv: ['help', 'publish'], says: /^Usage: narswarm publish \[options\] \[path\.\.\.\]/ },
    { argv: ['feed', 'create', '--help'], says: /Example:\n {2}narswarm feed create/ },
    { argv: ['--version'], says: /^narswarm 0\.0\.0-test\n$/ },
    { argv: ['version'], says: /^narswarm 0\.0\.0-test \(Node \d+/ },
  ]
  for (const { argv, says } of cases) {
    await t.test(argv.join(' '), async () => {
      const it = world({ stateDir })
      assert.equal(await it.run(...argv), 0)
      assert.match(it.stdout(), says)
      assert.equal(it.stderr(), '')
    })
  }
  const it = world({ stateDir })
  await it.run('version', '--json')
  const document = JSON.parse(it.stdout()) as Record<string, unknown>
  assert.equal(document['narswarm'], '0.0.0-test')
  assert.equal(document['node'], process.versions.node)
})

test('what an operation throws decides the exit code', async (t) => {
  const stateDir = await tempDir(t)
  const cases: { error: Error; exit: number }[] = [
    { error: new RequestError('no such path'), exit: 1 },
    { error: new TypeError('a bug'), exit: 1 },
    { error: new VerificationError('not what was signed'), exit: 3 },
    { error: new NarHashMismatchError('not the NAR'), exit: 3 },
    { error: new SourceFaultError('upstream:x', 'no answer'), exit: 4 },
  ]
  for (const { error, exit } of cases) {
    await t.test(error.name, async () => {
      const it = world({ stateDir, operations: fakeOperations({ verify: () => Promise.reject(error) }) })
      assert.equal(await it.run('verify', '/nix/store/x'), exit)
      assert.equal(it.stderr(), `narswarm: ${error.message}\n`)
      assert.deepEqual(it.node, { opened: 1, closed: [0] })
    })
  }
})

test('stacks are shown with NARSWARM_DEBUG=1 alone', async (t) => {
  const operations = fakeOperations({
    verify: () => Promise.reject(new RequestError('no such path', { cause: new Error('the reason') })),
  })
  const it = world({ stateDir: await tempDir(t), operations, env: { NARSWARM_DEBUG: '1' } })
  await it.run('verify', '/nix/store/x')
  assert.match(
    it.stderr(),
    /narswarm: RequestError: no such path\n +at .*\n(.*\n)*caused by Error: the reason/,
  )
})

test('a signal aborts the operation and names the exit code, whatever the operation then throws', async (t) => {
  const stateDir = await tempDir(t)
  for (const [name, exit] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const) {
    await t.test(name, async () => {
      const it = world({
        stateDir,
        operations: fakeOperations({
          verify: (_, { signal }) =>
            new Promise((_resolve, reject) => {
              signal.addEventListener('abort', () => reject(new TypeError('socket hang up')))
              it.signal(name)
            }),
        }),
      })
      assert.equal(await it.run('verify', '/nix/store/x'), exit)
      assert.equal(it.stderr(), `narswarm: stopped by ${name}\n`)
      assert.deepEqual(it.node.closed, [0])
    })
  }
})

test('a second signal does not wait', async (t) => {
  const it = world({
    stateDir: await tempDir(t),
    operations: fakeOperations({
      verify: async () => {
        it.signal('SIGINT')
        it.signal('SIGINT')
        throw new Error('ended')
      },
    }),
  })
  await it.run('verify', '/nix/store/x')
  assert.deepEqual(it.exits, [130])
})

test('control characters of others do not reach the terminal', async (t) => {
  const operations = fakeOperations({
    verify: () => Promise.reject(new RequestError('title \u001b]0;pwned\u0007 \u009b2J \u202e')),
  })
  const it = world({ stateDir: await tempDir(t), operations, tty: true, env: { NO_COLOR: '1' } })
  await it.run('verify', '/nix/store/x')
  assert.match(it.stderr(), /narswarm: title \\u001b\]0;pwned\\u0007 \\u009b2J \\u202e\n/)
})

test('colours are for terminals without NO_COLOR', async (t) => {
  const stateDir = await tempDir(t)
  const said = async (tty: boolean, env: NodeJS.ProcessEnv): Promise<boolean> => {
    const it = world({ stateDir, tty, env })
    await it.run('verify', '/nix/store/x')
    return it.stderr().includes('\u001b[31m')
  }
  assert.equal(await said(true, {}), true)
  assert.equal(await said(true, { NO_COLOR: '1' }), false)
  assert.equal(await said(false, {}), false)
})
