import { execFile, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { formatPublicKey, formatSecretKey, generateSecretKey } from '../../../../src/nix/key.ts'
import type { Stage } from '../../../e2e/kit/stage.ts'
import { startControl } from './control.ts'
import { startFront } from './front.ts'
import { applyPatches } from './patch.ts'
import type { Patch } from './patch.ts'
import { VERSION } from './source.ts'

export interface NixTest {
  /** File name without `.sh`. */
  readonly name: string
  /** Folders below its TEST_ROOT that are read through a narswarm each. */
  readonly caches: readonly string[]
  readonly patches: readonly Patch[]
}

/** Sourced by each script after Nix's own common.sh. */
const FUNCTIONS = `
# Tells what was done behind narswarm's back: see kit/control.ts.
narswarm() {
    local answer
    exec 9<>/dev/tcp/127.0.0.1/$narswarmControl
    echo "$*" >&9
    read -r answer <&9
    exec 9>&-
    [[ $answer = done ]] || fail "narswarm $*: $answer"
}
`

interface TestRun {
  readonly ok: boolean
  /** Bytes of NARs that came through narswarm. */
  readonly bytes: number
}

/** Runs one script of Nix's suite, patched, in a copy of its folder. */
export async function runNixTest(stage: Stage, tarball: string, test: NixTest): Promise<TestRun> {
  const tests = join(stage.dir, 'tests')
  const temp = join(stage.dir, 'tmp')
  const testRoot = join(temp, 'nix-test', test.name)
  await mkdir(tests)
  await mkdir(dirname(testRoot), { recursive: true })
  await promisify(execFile)('tar', [
    'xf',
    tarball,
    '-C',
    tests,
    '--strip-components=2',
    `nix-${VERSION}/tests`,
  ])
  for (const file of ['common.sh', 'config.nix']) await configure(tests, file)

  const key = generateSecretKey('narswarm-nix-tests-1', randomBytes)
  const keyFile = join(stage.dir, 'secret-key')
  await writeFile(keyFile, formatSecretKey(key), { mode: 0o600 })
  const fronts = await Promise.all(
    test.caches.map((cache) =>
      startFront(stage, {
        folder: join(testRoot, cache),
        storeDir: join(testRoot, 'store'),
        publicKey: formatPublicKey(key.publicKey),
      }),
    ),
  )
  const variables = [
    `narswarmControl=${await startControl(stage, fronts)}`,
    `publishKey=${keyFile}`,
    ...fronts.map(({ url }, at) => `cacheUrl${at === 0 ? '' : at + 1}=${url}`),
  ]
  await writeFile(join(tests, 'narswarm.sh'), `${variables.join('\n')}\n${FUNCTIONS}`)
  const script = join(tests, `${test.name}.sh`)
  const ours = { find: 'source common.sh\n', replace: 'source common.sh\nsource narswarm.sh\n' }
  const patched = applyPatches(await readFile(script, 'utf8'), [ours, ...test.patches])
  checkReads(patched)
  await writeFile(script, patched)

  let output = ''
  stage.keepLog(`${test.name}.sh`, () => output)
  const run = async (file: string): Promise<boolean> => {
    const child = spawn('bash', ['-e', file], {
      cwd: tests,
      env: { PATH: process.env['PATH'] ?? '', TMPDIR: temp, TEST_NAME: test.name, NIX_REMOTE: '' },
      stdio: ['ignore', 'pipe', 'pipe'],
      signal: stage.signal,
    })
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => (output = (output + text).slice(-40_000)))
    }
    const [code] = (await once(child, 'close')) as [number | null]
    return code === 0
  }
  const ok = (await run('init.sh')) && (await run(`${test.name}.sh`))
  let bytes = 0
  for (const front of fronts) bytes += await front.bytes()
  return { ok, bytes }
}

/** What may name the folder of a cache: writing, what only a folder can (list all), and the definition of a variable. */
const WRITES =
  /--to "?(?:file:|\$cacheURI|\$BINARY_CACHE)|nix store sign |nix-instantiate --store |nix store verify .*--all |^\w+=/
const FOLDER = /file:\/\/|\$cacheURI|\$BINARY_CACHE/

/** @throws Error for a line that reads past narswarm */
function checkReads(script: string): void {
  const past = script.split('\n').filter((line) => FOLDER.test(line) && !WRITES.test(line))
  if (past.length > 0) throw new Error(`expected all reads to come through narswarm, got ${past.join('; ')}`)
}

/** What Nix's `configure` does with a file. */
async function configure(tests: string, file: string): Promise<void> {
  const machine = process.arch === 'arm64' ? 'aarch64' : 'x86_64'
  const values: Record<string, string> = {
    bindir: '/usr/bin',
    coreutils: '/usr/bin',
    bash: '/bin/bash',
    dot: '',
    sandbox_shell: '',
    PACKAGE_VERSION: VERSION,
    system: `${machine}-linux`,
  }
  const text = await readFile(join(tests, `${file}.in`), 'utf8')
  await writeFile(
    join(tests, file),
    text.replaceAll(/@(\w+)@/g, (whole, name: string) => values[name] ?? whole),
  )
}
