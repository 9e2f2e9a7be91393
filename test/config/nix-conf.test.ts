import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { readNixConf, type NixConf } from '../../src/config/nix-conf.ts'
import { NIXOS_CACHE, NIXOS_KEY } from '../../src/config/schema.ts'
import { NIX_CONF_MAX_FILES_COUNT, NIX_CONF_MAX_INCLUDES } from '../../src/limits.ts'
import { haveNix, skipWithoutNix } from '../kit/nix.ts'
import { tempDir } from '../kit/temp.ts'

type Files = Record<string, string>

function conf(files: Files, env: Record<string, string> = {}): NixConf {
  return readNixConf((path) => files[path], env)
}

void test('no file says anything', () => {
  assert.deepEqual(conf({}), { substituters: undefined, trustedPublicKeys: undefined, files: [] })
})

const SUBSTITUTERS: readonly [string, string, readonly string[] | undefined][] = [
  ['one', 'substituters = https://a\n', ['https://a']],
  ['two, with spaces and tabs', '  substituters\t=  https://a \t https://b  ', ['https://a', 'https://b']],
  ['none', 'substituters =\n', []],
  ['a later line', 'substituters = https://a\nsubstituters = https://b', ['https://b']],
  ['extra alone, on top of the default', 'extra-substituters = https://a', [NIXOS_CACHE, 'https://a']],
  ['extra after', 'substituters = https://a\nextra-substituters = https://b', ['https://a', 'https://b']],
  ['extra before, which is lost', 'extra-substituters = https://b\nsubstituters = https://a', ['https://a']],
  [
    'extra twice',
    'extra-substituters = https://a\nextra-substituters = https://b',
    [NIXOS_CACHE, 'https://a', 'https://b'],
  ],
  ['the same one twice', 'substituters = https://a https://a', ['https://a']],
  ['a comment behind', 'substituters = https://a # https://b', ['https://a']],
  ['a comment alone', '# substituters = https://a', undefined],
  ['the name of Nix 1', 'binary-caches = https://a', ['https://a']],
  ['another setting', 'trusted-substituters = https://a\nsandbox = true', undefined],
  ['no spaces around =', 'substituters=https://a', undefined],
  ['carriage returns', 'substituters = https://a\r\nsandbox = true\r\n', ['https://a']],
]
for (const [name, text, expected] of SUBSTITUTERS) {
  void test(`substituters: ${name}`, () => {
    assert.deepEqual(conf({ '/etc/nix/nix.conf': text }).substituters, expected)
  })
}

void test('trusted keys, with those of extra- behind the default one', () => {
  const files = { '/etc/nix/nix.conf': 'extra-trusted-public-keys = a:b c:d' }
  assert.deepEqual(conf(files).trustedPublicKeys, [NIXOS_KEY, 'a:b', 'c:d'])
})

void test('include is relative to the file it is in; what is not there is passed over', () => {
  const files = {
    '/etc/nix/nix.conf': 'include sub/more.conf\n!include missing.conf\nextra-substituters = https://c',
    '/etc/nix/sub/more.conf': 'substituters = https://a\ninclude other.conf',
    '/etc/nix/sub/other.conf': 'extra-substituters = https://b',
  }
  const { substituters, files: read } = conf(files)
  assert.deepEqual(substituters, ['https://a', 'https://b', 'https://c'])
  assert.deepEqual(read, ['/etc/nix/nix.conf', '/etc/nix/sub/more.conf', '/etc/nix/sub/other.conf'])
})

void test('a file that includes itself ends', () => {
  const once = conf({ '/etc/nix/nix.conf': 'include nix.conf\nextra-substituters = https://a' })
  assert.equal(once.files.length, NIX_CONF_MAX_INCLUDES + 1)
  assert.deepEqual(once.substituters, [NIXOS_CACHE, 'https://a'])
  const tenTimes = conf({ '/etc/nix/nix.conf': 'include nix.conf\n'.repeat(10) })
  assert.equal(tenTimes.files.length, NIX_CONF_MAX_FILES_COUNT)
})

const USER = 'substituters = https://user'
const PLACES: readonly [string, Files, Record<string, string>, readonly string[]][] = [
  ['HOME', { '/home/x/.config/nix/nix.conf': USER }, { HOME: '/home/x' }, ['https://user']],
  [
    'XDG_CONFIG_HOME before HOME',
    { '/xdg/nix/nix.conf': USER, '/home/x/.config/nix/nix.conf': 'substituters = https://other' },
    { HOME: '/home/x', XDG_CONFIG_HOME: '/xdg' },
    ['https://user'],
  ],
  [
    'XDG_CONFIG_DIRS, less than the own',
    {
      '/one/nix/nix.conf': 'substituters = https://one',
      '/xdg/nix/nix.conf': 'extra-substituters = https://user',
    },
    { XDG_CONFIG_DIRS: '/one:/two', XDG_CONFIG_HOME: '/xdg' },
    ['https://one', 'https://user'],
  ],
  [
    'NIX_USER_CONF_FILES, the first one last',
    {
      '/a': 'substituters = https://a',
      '/b': 'substituters = https://b',
      '/home/x/.config/nix/nix.conf': USER,
    },
    { NIX_USER_CONF_FILES: '/a:/b', HOME: '/home/x' },
    ['https://a'],
  ],
  ['NIX_CONF_DIR', { '/conf/nix.conf': USER }, { NIX_CONF_DIR: '/conf' }, ['https://user']],
  [
    'NIX_CONFIG, last of all',
    { '/etc/nix/nix.conf': 'substituters = https://a', '/home/x/.config/nix/nix.conf': USER },
    { HOME: '/home/x', NIX_CONFIG: 'extra-substituters = https://env\nsandbox = true' },
    ['https://user', 'https://env'],
  ],
]
for (const [name, files, env, expected] of PLACES) {
  void test(`read from: ${name}`, () => assert.deepEqual(conf(files, env).substituters, expected))
}

void test('as the real Nix reads it', { skip: skipWithoutNix() }, async (t) => {
  assert.ok(haveNix())
  const dir = await tempDir(t)
  await mkdir(join(dir, 'nix'))
  await writeFile(
    join(dir, 'nix.conf'),
    'substituters = https://a.example https://b.example # no\ninclude more.conf\n!include none.conf\n',
  )
  await writeFile(
    join(dir, 'more.conf'),
    'extra-substituters = https://c.example\nbinary-cache-public-keys = x:y\n',
  )
  await writeFile(join(dir, 'nix', 'nix.conf'), 'extra-trusted-public-keys = z:y\n')
  const env = {
    NIX_CONF_DIR: dir,
    XDG_CONFIG_HOME: dir,
    XDG_CONFIG_DIRS: join(dir, 'none'),
    NIX_CONFIG: 'extra-substituters = https://d.example',
    HOME: dir,
  }
  const args = ['show-config', '--json', '--extra-experimental-features', 'nix-command', '--store', dir]
  const { stdout, status, stderr } = spawnSync('nix', args, {
    env: { ...process.env, ...env },
    encoding: 'utf8',
  })
  assert.equal(status, 0, stderr)
  const shown = JSON.parse(stdout) as Record<string, { value: string[] }>
  const read = readNixConf((path) => {
    try {
      return readFileSync(path, 'utf8')
    } catch {
      return undefined
    }
  }, env)
  assert.deepEqual([...(read.substituters ?? [])].sort(), shown['substituters']?.value.toSorted())
  assert.deepEqual([...(read.trustedPublicKeys ?? [])].sort(), shown['trusted-public-keys']?.value.toSorted())
})
