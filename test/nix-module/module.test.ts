import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { stringify } from 'smol-toml'
import { tempDir } from '../kit/temp.ts'
import { evaluate, skipWithoutNixpkgsLib } from './evaluate.ts'

type Directive = boolean | number | string | readonly string[]

interface System {
  /** Messages of the assertions that do not hold. */
  readonly failed: readonly string[]
  readonly units: Readonly<Record<string, { readonly serviceConfig: Readonly<Record<string, Directive>> }>>
  readonly nixSettings: Readonly<Record<string, unknown>>
  readonly ports: Ports
  readonly packages: readonly string[]
  /** The script that makes the configuration file; undefined without one. */
  readonly check: string | null
}

interface Ports {
  readonly tcp: readonly number[]
  readonly udp: readonly number[]
}

const NO_PORTS: Ports = { tcp: [], udp: [] }
const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
const KEY_FILES = '{ "example.org,main.log.key" = "/run/secrets/log"; }'

const system = (options: string): System =>
  evaluate('./module.nix', { configuration: `{ services.narswarm = ${options}; }` }) as System

function service(made: System): Readonly<Record<string, Directive>> {
  const unit = made.units['narswarm']
  assert.ok(unit !== undefined)
  return unit.serviceConfig
}

/** What `pkgs.formats.toml` was given. */
function settings(made: System): Record<string, unknown> {
  const json = / check-config (\{.*\})\n/.exec(made.check ?? '')?.[1]
  assert.ok(json !== undefined, `no check-config in ${made.check}`)
  return JSON.parse(json) as Record<string, unknown>
}

/** As NixOS writes it: a line for each item of a list. */
function unitFile(directives: Readonly<Record<string, Directive>>): string {
  const lines = Object.entries(directives).flatMap(([name, value]) =>
    [value].flat().map((one) => `${name}=${one}`.replaceAll(/\/stub\/\S+/g, '/bin/true')),
  )
  return ['[Service]', ...lines, ''].join('\n')
}

const systemd = Number(
  /^systemd (\d+)/.exec(
    spawnSync('systemd-analyze', ['--version'], { encoding: 'utf8' }).stdout ?? '',
  )?.[1] ?? 0,
)

suite('services.narswarm', { skip: skipWithoutNixpkgsLib() }, () => {
  test('does nothing unless it is enabled', () => {
    const { units, nixSettings, ports, packages, check } = system(
      '{ useAsSubstituter = true; openFirewall = true; }',
    )
    assert.deepEqual(
      { units, nixSettings, ports, packages, check },
      { units: {}, nixSettings: {}, ports: NO_PORTS, packages: [], check: null },
    )
  })

  test('enabled alone: a private service, and Nix and the firewall as they were', () => {
    const made = system('{ enable = true; }')
    assert.deepEqual(made.failed, [])
    assert.deepEqual(made.nixSettings, {})
    assert.deepEqual(made.ports, NO_PORTS)
    assert.deepEqual(made.packages, ['narswarm'])
    assert.equal(settings(made)['profile'], 'private')
    assert.equal(service(made)['ExecStart'], '/stub/narswarm/bin/narswarm serve --config /stub/narswarm.toml')
  })

  test('useAsSubstituter adds a substituter and no key', () => {
    const made = system(
      '{ enable = true; useAsSubstituter = true; settings.cache.listen = "127.0.0.1:7000"; }',
    )
    assert.deepEqual(made.nixSettings, {
      'extra-substituters': ['http://127.0.0.1:7000'],
      fallback: true,
      'narinfo-cache-negative-ttl': 60,
    })
  })

  test("the user's own nix.settings win and add up", () => {
    const made = evaluate('./module.nix', {
      configuration: `{
        services.narswarm = { enable = true; useAsSubstituter = true; };
        nix.settings = { fallback = false; extra-substituters = [ "https://example.org" ]; };
      }`,
    }) as System
    assert.equal(made.nixSettings['fallback'], false)
    assert.deepEqual(
      new Set(made.nixSettings['extra-substituters'] as string[]),
      new Set(['https://example.org', 'http://127.0.0.1:6277']),
    )
  })

  const firewalls: readonly (readonly [string, string, Ports])[] = [
    ['profile lan, not asked to', '{ enable = true; settings.profile = "lan"; }', NO_PORTS],
    [
      'profile lan',
      '{ enable = true; openFirewall = true; settings.profile = "lan"; }',
      { tcp: [6278, 6279], udp: [5353] },
    ],
    [
      'profile pool, which looks for nobody',
      '{ enable = true; openFirewall = true; settings.profile = "pool"; }',
      { tcp: [6278, 6279], udp: [] },
    ],
    [
      'ports of its own',
      '{ enable = true; openFirewall = true; settings = { profile = "lan"; peer.listen = "[::]:7000"; swarm.listen = [ "/ip4/0.0.0.0/tcp/7001" "/ip6/::/tcp/7002" ]; }; }',
      { tcp: [7000, 7001, 7002], udp: [5353] },
    ],
  ]
  for (const [title, options, ports] of firewalls) {
    test(`firewall: ${title}`, () => {
      const made = system(options)
      assert.deepEqual(made.failed, [])
      assert.deepEqual(made.ports, ports)
    })
  }

  test('a freeform setting reaches the file, null does not', () => {
    const made = system('{ enable = true; settings.feed = [ { name = "example.org/main"; } ]; }')
    const { feed, peer } = settings(made)
    assert.deepEqual(feed, [{ name: 'example.org/main' }])
    assert.deepEqual(peer, {})
  })

  test('keys are handed over as credentials, before the start', () => {
    const directives = service(system(`{ enable = true; keyFiles = ${KEY_FILES}; }`))
    assert.deepEqual(directives['LoadCredential'], ['example.org,main.log.key:/run/secrets/log'])
    assert.deepEqual(directives['ExecStartPre'], [
      '/stub/coreutils/bin/install -d -m 0700 /var/lib/narswarm/keys',
      '/stub/coreutils/bin/install -m 0400 -t /var/lib/narswarm/keys %d/example.org,main.log.key',
    ])
  })

  const refused: readonly (readonly [string, string, RegExp])[] = [
    [
      'openFirewall without a listener',
      '{ enable = true; openFirewall = true; }',
      /openFirewall needs .*profile/,
    ],
    ['another state_dir', '{ enable = true; settings.state_dir = "/srv"; }', /state_dir needs to be/],
    ['a key in the store', '{ enable = true; keyFiles.a = "/nix/store/x"; }', /keyFiles needs paths outside/],
    ['a key name with a slash', '{ enable = true; keyFiles."a/b" = "/run/x"; }', /keyFiles needs file names/],
  ]
  for (const [title, options, message] of refused) {
    test(`assertion: ${title}`, () => {
      const { failed } = system(options)
      assert.equal(failed.length, 1)
      assert.match(failed[0] ?? '', message)
    })
  }

  test('assertion: useAsSubstituter without Nix', () => {
    const { failed } = evaluate('./module.nix', {
      configuration:
        '{ services.narswarm = { enable = true; useAsSubstituter = true; }; nix.enable = false; }',
    }) as System
    assert.match(failed.join('\n'), /useAsSubstituter needs nix\.enable/)
  })

  test('a profile that there is not is an evaluation error', () => {
    assert.throws(() => system('{ enable = true; settings.profile = "everyone"; }'), /profile/)
  })

  test('the unit is closed where Node can bear it', () => {
    const directives = service(system('{ enable = true; }'))
    const closed = {
      DynamicUser: true,
      StateDirectory: 'narswarm',
      StateDirectoryMode: '0700',
      UMask: '0077',
      NoNewPrivileges: true,
      CapabilityBoundingSet: '',
      ProtectSystem: 'strict',
      ProtectHome: true,
      PrivateUsers: true,
      RestrictAddressFamilies: ['AF_UNIX', 'AF_INET', 'AF_INET6', 'AF_NETLINK'],
      SystemCallFilter: ['@system-service', '~@privileged', '~@resources'],
      MemoryDenyWriteExecute: false,
    }
    assert.deepEqual(Object.fromEntries(Object.keys(closed).map((name) => [name, directives[name]])), closed)
  })

  test(
    'systemd knows every directive, and rates the unit 2.0 or better',
    // 254 brought RestartSteps; a name that systemd does not know is ignored by it, and the protection with it.
    { skip: systemd === 0 ? 'no systemd-analyze on PATH' : false },
    async (t) => {
      const file = join(await tempDir(t), 'narswarm.service')
      const directives = service(system(`{ enable = true; keyFiles = ${KEY_FILES}; }`))
      const newer = systemd < 254 ? ['RestartSteps', 'RestartMaxDelaySec'] : []
      const known = Object.entries(directives).filter(([name]) => !newer.includes(name))
      await writeFile(file, unitFile(Object.fromEntries(known)))
      const verified = spawnSync('systemd-analyze', ['verify', file], { encoding: 'utf8' })
      assert.doesNotMatch(verified.stderr, /narswarm\.service/)
      const rated = spawnSync('systemd-analyze', ['security', '--offline=yes', '--threshold=20', file], {
        encoding: 'utf8',
      })
      assert.equal(rated.status, 0, rated.stdout + rated.stderr)
    },
  )

  const files: readonly (readonly [string, string, number])[] = [
    ['the default', '{ enable = true; }', 0],
    [
      'a profile that shares',
      '{ enable = true; settings = { profile = "lan"; peers.urls = [ "http://10.0.0.2:6278" ]; swarm.listen = [ "/ip4/0.0.0.0/tcp/6279" ]; }; }',
      0,
    ],
    ['a setting that there is not', '{ enable = true; settings.cache.lisen = "127.0.0.1:6277"; }', 2],
    ['a cache for everyone', '{ enable = true; settings.cache.listen = "0.0.0.0:6277"; }', 2],
  ]
  for (const [title, options, exitCode] of files) {
    test(`check-config, as at build time: ${title}`, async (t) => {
      const file = join(await tempDir(t), 'narswarm.toml')
      await writeFile(file, stringify(settings(system(options))))
      const { status, stderr } = spawnSync(process.execPath, [MAIN, 'check-config', file], {
        encoding: 'utf8',
      })
      assert.equal(status, exitCode, stderr)
    })
  }
})
