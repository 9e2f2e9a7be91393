import assert from 'node:assert/strict'
import { test } from 'node:test'
import { z } from 'zod'
import { shares, type Config } from '../../src/config/config.ts'
import { ConfigError } from '../../src/config/errors.ts'
import { loadConfig, type ConfigInput } from '../../src/config/load.ts'
import { configSchema, NIXOS_CACHE, NIXOS_KEY } from '../../src/config/schema.ts'
import { formatPublicKey } from '../../src/nix/key.ts'

const FILE = '/c.toml'
/** Of the vectors of RFC 8032, under a name of our own. */
const KEY = 'mine-1:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo='
const OTHER = 'mine-1:PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw='
const ROOT_KEY = 'example.org/main/root+4505195a+AUsysFvzK2SLouTM0+ktBaISu8PhywtIUAQdkET0WTGB'
const PEER = '/ip4/10.0.0.2/tcp/6279/p2p/12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5'

interface World {
  files?: Record<string, string>
  env?: Record<string, string>
  flags?: Record<string, unknown>
  file?: string
  isRoot?: boolean
}

function load({ files = {}, env = {}, isRoot = false, ...rest }: World = {}): Config {
  const input: ConfigInput = {
    env: { HOME: '/home/x', ...env },
    read: (path) => files[path],
    isRoot,
    ...rest,
  }
  return loadConfig(input)
}

/** A configuration of one file. */
function of(text: string, world: World = {}): Config {
  return load({ ...world, file: FILE, files: { ...world.files, [FILE]: text } })
}

void test('nothing at all: shares nothing, listens on loopback, asks and trusts cache.nixos.org', () => {
  const config = load()
  assert.equal(config.profile, 'private')
  assert.equal(shares(config), false)
  assert.equal(config.storeDir, '/nix/store')
  assert.equal(config.stateDir, '/home/x/.local/state/narswarm')
  assert.deepEqual(config.upstreams.map(String), [`${NIXOS_CACHE}/`])
  assert.deepEqual(config.cache, {
    listen: { host: '127.0.0.1', port: 6277 },
    priority: 30,
    allowedHosts: [],
  })
  assert.equal(config.peer, undefined)
  assert.deepEqual(config.swarm, { listen: [] })
  assert.deepEqual(config.trust.keys.map(formatPublicKey), [NIXOS_KEY])
  assert.deepEqual(config.share.keys.map(formatPublicKey), [NIXOS_KEY])
  assert.deepEqual(config.peers, { urls: [], addrs: [] })
  assert.deepEqual(config.audit, { maxBytesPerDay: 0 })
  assert.deepEqual(config.log, { level: 'info', format: 'text' })
  assert.deepEqual([...config.origins], [])
  assert.deepEqual(config.warnings, [])
})

void test('everything', () => {
  const config = of(`
profile = "pool"
store_dir = "/gnu/store"
store_root = "/mnt"
state_dir = "/state"
upstreams = ["https://a.example", "http://b.example:8080/c", "file:///srv/cache"]
cache = { listen = "[::1]:7000", priority = 20, allowed_hosts = ["cache.lan", "cache.lan:7000", "[::1]:7000"] }
peer.listen = "10.0.0.1:7001"
swarm.listen = ["/ip4/10.0.0.1/tcp/7002"]
trust = { keys = ["${KEY}", "${NIXOS_KEY}"], threshold = 2 }
share.keys = ["${KEY}"]
peers = { urls = ["http://10.0.0.2:6278"], addrs = ["${PEER}"] }
[log]
level = "debug"
format = "json"
[[feed]]
name = "example.org/main"
root_key = "${ROOT_KEY}"
sources = ["https://example.org/feed", "file:///srv/feed"]
`)
  assert.equal(config.profile, 'pool')
  assert.equal(shares(config), true)
  assert.equal(config.storeRoot, '/mnt')
  assert.deepEqual(config.upstreams.map(String), [
    'https://a.example/',
    'http://b.example:8080/c',
    'file:///srv/cache',
  ])
  assert.deepEqual(config.cache.listen, { host: '::1', port: 7000 })
  assert.deepEqual(config.peer, { listen: { host: '10.0.0.1', port: 7001 } })
  assert.deepEqual(config.trust.keys.map(formatPublicKey), [KEY, NIXOS_KEY])
  assert.equal(config.trust.threshold, 2)
  assert.deepEqual(config.peers.addrs, [PEER])
  assert.equal(config.feeds[0]?.rootKey, ROOT_KEY)
  assert.deepEqual(config.feeds[0].sources.map(String), ['https://example.org/feed', 'file:///srv/feed'])
  assert.deepEqual(config.warnings, [])
  assert.ok([...config.origins.values()].every((origin) => origin === 'file'))
})

void test('share.deny and share.upload', () => {
  const config = of('profile = "lan"\nshare = { deny = ["firefox-*", "a?"], upload = "1.5MiB" }')
  assert.deepEqual(
    config.share.deny.map(({ text }) => text),
    ['firefox-*', 'a?'],
  )
  assert.equal(config.share.upload, 1_572_864)
  assert.equal(of('').share.upload, undefined)
  assert.equal(load({ env: { NARSWARM_SHARE_UPLOAD: '20MiB' } }).share.upload, 20 * 1024 ** 2)
})

void test('who uploads nothing shares nothing, and listens to nobody', () => {
  for (const upload of ['0', '"0"', '"0MiB"']) {
    const config = of(`profile = "lan"\nshare.upload = ${upload}\npeer.listen = "10.0.0.1:1"`)
    assert.equal(shares(config), false)
    assert.deepEqual([config.peer, config.swarm.listen], [undefined, []])
    assert.match(config.warnings.join(), /peer\.listen is set, but share\.upload = 0 shares nothing/)
  }
})

void test('a profile that shares listens for others', () => {
  for (const profile of ['lan', 'public']) {
    const config = of(`profile = "${profile}"`)
    assert.deepEqual(config.peer, { listen: { host: '::', port: 6278 } })
    assert.deepEqual(config.swarm.listen, ['/ip4/0.0.0.0/tcp/6279', '/ip6/::/tcp/6279'])
  }
})

void test('profile private listens to nobody, whatever else is said, and says so', () => {
  const config = of('peer.listen = "0.0.0.0:1"\nswarm.listen = ["/ip4/0.0.0.0/tcp/1"]')
  assert.equal(config.peer, undefined)
  assert.deepEqual(config.swarm.listen, [])
  assert.match(config.warnings.join('\n'), /peer\.listen is set[^]*swarm\.listen is set/)
})

void test('a pool without keys of its own is told', () => {
  assert.match(of('profile = "pool"').warnings.join(), /pool without share\.keys/)
})

void test('a flag beats the environment, which beats the file', () => {
  const files = { [FILE]: 'profile = "lan"\n[log]\nlevel = "error"\nformat = "json"\n[cache]\npriority = 1' }
  const env = {
    NARSWARM_CONFIG: FILE,
    NARSWARM_PROFILE: 'pool',
    NARSWARM_LOG_LEVEL: 'warn',
    NARSWARM_LOG_FORMAT: '',
  }
  const config = load({ files, env, flags: { profile: 'public', cache: { listen: '127.0.0.1:1' } } })
  assert.equal(config.profile, 'public')
  assert.deepEqual(config.log, { level: 'warn', format: 'json' })
  assert.equal(config.cache.priority, 1)
  assert.deepEqual(Object.fromEntries(config.origins), {
    'cache.listen': 'flag',
    'cache.priority': 'file',
    'log.format': 'file',
    'log.level': 'environment',
    profile: 'flag',
  })
})

void test('all variables', () => {
  const config = load({
    env: {
      NARSWARM_PROFILE: 'lan',
      NARSWARM_STORE_DIR: '/s',
      NARSWARM_STORE_ROOT: '/r',
      NARSWARM_STATE_DIR: '/d',
      NARSWARM_UPSTREAMS: ' https://a.example  https://b.example ',
      NARSWARM_CACHE_LISTEN: '127.0.0.1:1',
      NARSWARM_PEER_LISTEN: '10.0.0.1:2',
      NARSWARM_LOG_LEVEL: 'debug',
      NARSWARM_LOG_FORMAT: 'json',
    },
  })
  assert.equal(config.storeDir + config.storeRoot + config.stateDir, '/s/r/d')
  assert.deepEqual(config.upstreams.map(String), ['https://a.example/', 'https://b.example/'])
  assert.equal(config.cache.listen.port, 1)
  assert.equal(config.peer?.listen.port, 2)
  assert.equal(config.origins.get('upstreams'), 'environment')
})

const SYSTEM = '/etc/narswarm/config.toml'
const PLACES: readonly [string, World, string][] = [
  [
    '--config',
    { file: '/a', files: { '/a': 'state_dir="/1"', '/b': '' }, env: { NARSWARM_CONFIG: '/b' } },
    '/1',
  ],
  [
    'NARSWARM_CONFIG',
    { files: { '/b': 'state_dir="/2"', [SYSTEM]: '' }, env: { NARSWARM_CONFIG: '/b' } },
    '/2',
  ],
  ['/etc', { files: { [SYSTEM]: 'state_dir="/3"', '/home/x/.config/narswarm/config.toml': '' } }, '/3'],
  ['HOME', { files: { '/home/x/.config/narswarm/config.toml': 'state_dir="/4"' } }, '/4'],
  [
    'XDG',
    { files: { '/xdg/narswarm/config.toml': 'state_dir="/5"' }, env: { XDG_CONFIG_HOME: '/xdg' } },
    '/5',
  ],
  ['no file: STATE_DIRECTORY', { env: { STATE_DIRECTORY: '/var/lib/a:/var/lib/b' } }, '/var/lib/a'],
  ['no file: XDG_STATE_HOME', { env: { XDG_STATE_HOME: '/xdg' } }, '/xdg/narswarm'],
  ['no file: root', { isRoot: true }, '/var/lib/narswarm'],
]
for (const [name, world, stateDir] of PLACES) {
  void test(`the state directory by ${name}`, () => assert.equal(load(world).stateDir, stateDir))
}

const NIX_CONF = '/etc/nix/nix.conf'
const nixConf = (text: string, more = ''): Config => of(more, { files: { [NIX_CONF]: text } })

void test('substituters of nix.conf: without ourselves, by their priority', () => {
  const config = nixConf(
    'substituters = http://localhost:6277?priority=1 https://a.example/x?priority=50&trusted=true https://b.example https://c.example?priority=10',
  )
  assert.deepEqual(config.upstreams.map(String), [
    'https://c.example/',
    'https://b.example/',
    'https://a.example/x',
  ])
  assert.equal(config.origins.get('upstreams'), 'nix.conf')
  assert.deepEqual(config.warnings, [])
})

void test('substituters of nix.conf that cannot be asked from here are told, without their secrets', () => {
  const { upstreams, warnings } = nixConf(
    'substituters = s3://KEYID:SECRET@bucket ssh://host daemon https://u:SECRET@a.example file:///srv/cache',
  )
  assert.deepEqual(upstreams.map(String), ['file:///srv/cache'])
  assert.equal(warnings.length, 4)
  assert.doesNotMatch(warnings.join('\n'), /SECRET/)
})

void test('ourselves alone in nix.conf leaves cache.nixos.org; nobody leaves nobody; strangers leave nobody', () => {
  assert.deepEqual(nixConf('substituters = http://127.0.0.1:6277').upstreams.map(String), [`${NIXOS_CACHE}/`])
  assert.deepEqual(nixConf('substituters =').upstreams, [])
  assert.deepEqual(nixConf('substituters = s3://bucket').upstreams, [])
})

void test('upstreams of our own configuration leave nix.conf out', () => {
  const config = nixConf('substituters = https://a.example', 'upstreams = []')
  assert.deepEqual(config.upstreams, [])
  assert.equal(config.origins.get('upstreams'), 'file')
})

void test('trusted keys of nix.conf: the good ones, the first of a name', () => {
  const low = `low-1:${Buffer.alloc(32, 0).fill(1, 0, 1).toString('base64')}`
  const config = nixConf(`trusted-public-keys = ${KEY} junk ${low} ${OTHER} ${NIXOS_KEY}`)
  assert.deepEqual(config.trust.keys.map(formatPublicKey), [KEY, NIXOS_KEY])
  assert.equal(config.origins.get('trust.keys'), 'nix.conf')
  assert.equal(config.warnings.length, 3)
  assert.match(nixConf('trusted-public-keys =').warnings.join(), /nothing will be passed on/)
})

const WRONG: readonly [string, string, RegExp][] = [
  ['a TOML fault', 'profile = "lan"\nstate_dir = ', /^configuration \/c\.toml: line 2, column \d+: /],
  ['a key twice', 'profile = "lan"\nprofile = "lan"', /line 2/],
  ['an unknown key', '\nprofil = "lan"', /: profil: unknown key \(line 2\)$/],
  [
    'an unknown key in a table',
    '[cache]\nlisten = "127.0.0.1:1"\nport = 1',
    /cache\.port: unknown key \(line 3\)/,
  ],
  ['an unknown key of a feed', '[[feed]]\nname="a.b/c"\nkey=1', /feed\.0\.key: unknown key \(line 3\)/],
  ['__proto__', '__proto__ = { profile = "lan" }', /__proto__: unknown key/],
  ['a size without a unit', 'share.upload = 5', /share\.upload: expected string, got number/],
  [
    'a pattern with a folder',
    'share.deny = ["/nix/store/x"]',
    /share\.deny\.0: expected a name of a store path/,
  ],
  ['a number for a string', 'state_dir = 1', /state_dir: expected string, got number \(line 1\)/],
  ['a string for a table', 'cache = "x"', /cache: expected object, got string/],
  [
    'another profile',
    'profile = "Lan"',
    /profile: expected one of "private"\|"lan"\|"pool"\|"public", got "Lan" \(line 1\)/,
  ],
  ['a relative folder', 'state_dir = "state"', /state_dir: expected an absolute path/],
  ['a store with a slash at its end', 'store_dir = "/nix/store/"', /store_dir: expected an absolute path/],
  ['a folder that leads up', 'state_dir = "/a/../b"', /state_dir: expected an absolute path/],
  [
    'a cache listener for all',
    'cache.listen = "0.0.0.0:6277"',
    /cache\.listen: expected a loopback address: .* got 0\.0\.0\.0:6277/,
  ],
  ['a listener by name', 'cache.listen = "localhost:6277"', /cache\.listen: expected an IP address and port/],
  ['a priority of -1', 'cache.priority = -1', /cache\.priority: .*>=0, got -1/],
  ['a priority of 1.5', 'cache.priority = 1.5', /cache\.priority: expected int, got number/],
  [
    'a host with a slash',
    'cache.allowed_hosts = ["a/b"]',
    /cache\.allowed_hosts\.0: expected host or host:port/,
  ],
  [
    'an ftp upstream',
    'upstreams = ["ftp://a/"]',
    /upstreams\.0: expected a URL of http, https, file, got "ftp:\/\/a\/"/,
  ],
  [
    'an upstream with a query',
    'upstreams = ["https://a/?x=SECRET"]',
    /upstreams\.0: expected a URL without \? and #/,
  ],
  [
    'an upstream with a password',
    'upstreams = ["https://u:SECRET@a/"]',
    /upstreams\.0: .* password, got one for a/,
  ],
  [
    'an s3 upstream with a password',
    'upstreams = ["s3://u:SECRET@a/"]',
    /upstreams\.0: expected a URL of http/,
  ],
  [
    'ourselves as upstream',
    'upstreams = ["http://localhost:6277/"]',
    /upstreams\.0: .* our own cache\.listen/,
  ],
  ['a key without a name', 'trust.keys = ["SECRET=="]', /trust\.keys\.0: public key: expected name:base64/],
  [
    'a key of small order',
    `share.keys = ["a:${Buffer.alloc(32).toString('base64')}"]`,
    /share\.keys\.0: public key "a": /,
  ],
  [
    'two keys of one name',
    `trust.keys = ["${KEY}", "${OTHER}"]`,
    /trust\.keys: .*two different keys are named "mine-1"/,
  ],
  [
    'a threshold above the keys',
    'trust.threshold = 2',
    /trust\.threshold: .*there are trusted keys \(1\), got 2/,
  ],
  ['a threshold of 0', 'trust.threshold = 0', /trust\.threshold: .*>=1, got 0/],
  [
    'a feed without sources',
    `[[feed]]\nname = "a.b/c"\nroot_key = "${ROOT_KEY}"\nsources = []`,
    /feed\.0\.sources: .*got \[\]/,
  ],
  [
    'a feed without a key',
    '[[feed]]\nname = "a.b/c"\nsources = ["https://a"]',
    /feed\.0\.root_key: .*there is none/,
  ],
  [
    'a Nix key for a feed',
    `[[feed]]\nname = "a.b/c"\nroot_key = "${KEY}"\nsources = ["https://a"]`,
    /root_key: expected a vkey/,
  ],
  [
    'a feed name in capitals',
    `[[feed]]\nname = "A/b"\nroot_key = "${ROOT_KEY}"\nsources = ["https://a"]`,
    /feed\.0\.name: /,
  ],
  [
    'a feed twice',
    `[[feed]]\nname = "a.b/c"\nroot_key = "${ROOT_KEY}"\nsources = ["https://a"]\n`.repeat(2),
    /feed\.1\.name: the feed "a\.b\/c" is there twice \(line 6\)/,
  ],
  ['a peer without its id', 'peers.addrs = ["/ip4/10.0.0.1/tcp/1"]', /peers\.addrs\.0: expected a multiaddr/],
  ['a peer by file', 'peers.urls = ["file:///x"]', /peers\.urls\.0: expected a URL of http, https, got/],
  [
    'a listen address of QUIC',
    'swarm.listen = ["/ip4/0.0.0.0/udp/1/quic-v1"]',
    /swarm\.listen\.0: expected a multiaddr/,
  ],
]
for (const [name, text, expected] of WRONG) {
  void test(`refused: ${name}`, () => {
    assert.throws(
      () => of(text),
      (error) => {
        assert.ok(error instanceof ConfigError, String(error))
        assert.match(error.message, expected)
        assert.doesNotMatch(error.message, /SECRET/)
        return true
      },
    )
  })
}

void test('all problems are told at once', () => {
  assert.throws(
    () => of('profil = 1\nstate_dir = 2\ncache.listen = "x"'),
    (error) => error instanceof ConfigError && error.problems.length === 3,
  )
})

void test('a problem of a variable or a flag names where it came from', () => {
  assert.throws(
    () => load({ env: { NARSWARM_CACHE_LISTEN: 'x' } }),
    /cache\.listen: .* \(NARSWARM_CACHE_LISTEN\)$/,
  )
  assert.throws(() => load({ flags: { profile: 'x' } }), /profile: .* \(command line\)$/)
})

void test('a table that the file got wrong stays wrong when a variable sets a key of it', () => {
  assert.throws(
    () => of('cache = 1', { env: { NARSWARM_CACHE_LISTEN: '127.0.0.1:1' } }),
    /cache: expected object/,
  )
})

void test('a file that was named must be there', () => {
  assert.throws(() => load({ file: '/none' }), /configuration \/none: expected a readable file/)
  assert.throws(() => load({ env: { NARSWARM_CONFIG: '/none' } }), ConfigError)
})

interface JsonSchema {
  description?: string
  properties?: Record<string, JsonSchema>
  items?: JsonSchema
}

void test('every key has a description, since the reference is made of them', () => {
  const undescribed: string[] = []
  let described = 0
  const visit = ({ properties = {} }: JsonSchema, path: string): void => {
    for (const [key, value] of Object.entries(properties)) {
      if (value.description === undefined) undescribed.push(`${path}${key}`)
      else described++
      visit(value, `${path}${key}.`)
      visit(value.items ?? {}, `${path}${key}.`)
    }
  }
  visit(z.toJSONSchema(configSchema, { io: 'input' }) as JsonSchema, '')
  assert.deepEqual(undescribed, [])
  assert.ok(described > 20, `${described} keys`)
})

for (const [told, bytes] of [
  ['0', 0],
  ['1048576', 1_048_576],
  ['"1GiB"', 1_073_741_824],
] as const) {
  void test(`audit.max_bytes_per_day = ${told}`, () => {
    assert.equal(of(`[audit]\nmax_bytes_per_day = ${told}\n`).audit.maxBytesPerDay, bytes)
  })
}

for (const told of ['-1', '1.5', '"1GB"', 'true']) {
  void test(`audit.max_bytes_per_day = ${told} is refused`, () => {
    assert.throws(() => of(`[audit]\nmax_bytes_per_day = ${told}\n`), ConfigError)
  })
}

for (const [text, rewrite] of [
  ['', true],
  ['[upgrade]\n', true],
  ['[upgrade]\nrewrite = true\n', true],
  ['[upgrade]\nrewrite = false\n', false],
] as const) {
  void test(`upgrade.rewrite of ${JSON.stringify(text)} is ${rewrite}`, () => {
    assert.equal(of(text).upgrade.rewrite, rewrite)
  })
}

void test('upgrade.rewrite is no text', () => {
  assert.throws(() => of('[upgrade]\nrewrite = "no"\n'), ConfigError)
})

const SHARES = 'profile = "pool"\nshare.keys = []\n'
for (const [text, relay, warnings] of [
  ['', undefined, 0],
  [SHARES, undefined, 0],
  [`${SHARES}[upgrade]\nrelay = false\n`, undefined, 0],
  [`${SHARES}[upgrade]\nrelay = true\n`, { maxBytesPerDay: 50 * 1024 ** 3 }, 0],
  [`${SHARES}[upgrade]\nrelay = true\nrelay_max_bytes_per_day = "1TiB"\n`, { maxBytesPerDay: 1024 ** 4 }, 0],
  [`${SHARES}[upgrade]\nrelay = true\nrelay_max_bytes_per_day = 5\n`, { maxBytesPerDay: 5 }, 0],
  [`${SHARES}[upgrade]\nrelay_max_bytes_per_day = 5\n`, undefined, 1],
  ['[upgrade]\nrelay = true\n', undefined, 1],
] as const) {
  void test(`the relay of ${JSON.stringify(text)}`, () => {
    const config = of(text)
    assert.deepEqual(config.upgrade.relay, relay)
    assert.equal(config.warnings.filter((one) => one.includes('relay')).length, warnings)
  })
}
