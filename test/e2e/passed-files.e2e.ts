import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { nixCommand, skipWithoutNix } from '../kit/nix.ts'
import { startNarswarm } from './kit/narswarm.ts'
import { openStage } from './kit/stage.ts'

const run = promisify(execFile)

const CONF = `build-users-group =
substituters =
sandbox = true
sandbox-paths = /bin /usr /lib /lib64
experimental-features = nix-command ca-derivations
`
/** Content-addressed: where its output is can only be learnt from a realisation. */
const PACKAGE = `derivation {
  name = "addressed-by-content-1.0+x";
  system = builtins.currentSystem;
  builder = "/bin/sh";
  args = [ "-euc" "echo building it; mkdir -p $out/bin; echo hi > $out/bin/hi; chmod +x $out/bin/hi; ln -s bin $out/link" ];
  PATH = "/usr/bin:/bin";
  __contentAddressed = true;
  outputHashMode = "recursive";
  outputHashAlgo = "sha256";
}`

test(
  'logs, realisations and listings of a cache reach Nix and others through narswarm',
  { skip: skipWithoutNix() },
  async (t) => {
    const stage = await openStage(t)
    const { dir, signal } = stage
    await mkdir(join(dir, 'conf'))
    await writeFile(join(dir, 'conf', 'nix.conf'), CONF)
    const file = join(dir, 'package.nix')
    await writeFile(file, PACKAGE)
    const env = {
      PATH: process.env['PATH'] ?? '',
      HOME: join(dir, 'home'),
      NIX_CONF_DIR: join(dir, 'conf'),
      NIX_USER_CONF_FILES: '',
    }
    const nix = async (...command: [program: string, ...args: string[]]): Promise<string> => {
      const [program, ...args] = command
      const { stdout } = await run(...nixCommand(program, args), { env, signal })
      return stdout.trim()
    }
    const [built, fresh, cacheDir] = [join(dir, 'built'), join(dir, 'fresh'), join(dir, 'cache')]
    await nix('nix-store', '--generate-binary-cache-key', 'e2e-1', join(dir, 'secret'), join(dir, 'public'))
    const publicKey = (await readFile(join(dir, 'public'), 'utf8')).trim()
    const secret = ['--option', 'secret-key-files', join(dir, 'secret')]
    const outPath = await nix('nix-build', '--store', built, file, '--no-out-link', ...secret)
    const drv = await nix('nix-instantiate', '--store', built, file)
    const to = `file://${cacheDir}?write-nar-listing=1&secret-key=${join(dir, 'secret')}`
    await nix('nix', 'copy', '--store', built, '--to', to, '--file', file)
    await nix('nix', 'store', 'copy-log', '--store', built, '--to', `file://${cacheDir}`, drv)
    assert.equal((await readdir(join(cacheDir, 'realisations'))).length, 1)

    const narswarm = await startNarswarm(stage, 'A', {
      store_root: join(dir, 'no-store'),
      upstreams: [`file://${cacheDir}`],
      trust: { keys: [publicKey] },
    })
    const { cache } = await narswarm.status()
    const substituter = ['--option', 'substituters', cache.url, '--option', 'trusted-public-keys', publicKey]

    const name = `${basename(outPath).slice(0, 32)}.ls`
    const listing = await readFile(join(cacheDir, name), 'utf8')
    const passed = await fetch(`${cache.url}/${name}`)
    assert.deepEqual([passed.status, passed.headers.get('cache-control')], [200, 'no-store'])
    assert.equal(await passed.text(), listing)
    assert.equal((await narswarm.status()).spool.nars, 0)

    // Nothing may be built: the output comes by way of its realisation.
    await nix('nix-build', '--store', fresh, file, '--no-out-link', '--max-jobs', '0', ...substituter)
    assert.equal(await readFile(join(fresh, outPath, 'bin/hi'), 'utf8'), 'hi\n')
    assert.equal(await nix('nix', 'log', '--store', fresh, ...substituter, drv), 'building it')

    const made = await fetch(`${cache.url}/${name}`)
    assert.match(made.headers.get('cache-control') ?? '', /^public/)
    // Newer Nixes order the keys of what they write in another way.
    assert.deepEqual(JSON.parse(await made.text()), JSON.parse(listing))
  },
)
