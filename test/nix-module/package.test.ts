import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { suite, test } from 'node:test'
import { evaluate, skipWithoutNixpkgsLib } from './evaluate.ts'

interface LockEntry {
  readonly version?: string
  readonly resolved?: string
  readonly integrity?: string
  readonly peer?: boolean
  readonly dependencies?: Readonly<Record<string, string>>
  readonly optionalDependencies?: Readonly<Record<string, string>>
}

interface Package {
  readonly pname: string
  readonly version: string
  readonly nodejs: string
  readonly mainProgram: string
  readonly npmDeps: {
    readonly package: LockEntry
    readonly packageLock: { readonly packages: Readonly<Record<string, LockEntry>> }
  }
}

interface Flake {
  readonly names: Readonly<Record<string, readonly string[]>>
  readonly systems: readonly string[]
  readonly program: string
  readonly overlay: string
}

const manifest = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  readonly name: string
  readonly version: string
  readonly dependencies: Readonly<Record<string, string>>
}

suite('nix/package.nix', { skip: skipWithoutNixpkgsLib() }, () => {
  const evaluated = (): Package => evaluate('./package.nix') as Package

  test('takes name and version from package.json, and the Node of nixpkgs', () => {
    const { pname, version, nodejs, mainProgram } = evaluated()
    assert.deepEqual(
      { pname, version, nodejs, mainProgram },
      { pname: manifest.name, version: manifest.version, nodejs: 'nodejs', mainProgram: 'narswarm' },
    )
  })

  test('every dependency has a URL and a hash, as importNpmLock needs', () => {
    const { packages } = evaluated().npmDeps.packageLock
    const dependencies = Object.entries(packages).filter(([path]) => path !== '')
    assert.ok(dependencies.length > 100)
    for (const [path, entry] of dependencies) {
      assert.match(entry.resolved ?? '', /^https:\/\/registry\.npmjs\.org\/.+\/-\/[^/]+\.tgz$/, path)
      assert.match(entry.integrity ?? '', /^sha512-/, path)
    }
    assert.equal(
      packages['node_modules/@noble/ed25519']?.resolved,
      `https://registry.npmjs.org/@noble/ed25519/-/ed25519-${manifest.dependencies['@noble/ed25519']}.tgz`,
    )
  })

  test('neither the bundled Node nor mere peers are installed', () => {
    const { package: root, packageLock } = evaluated().npmDeps
    const paths = Object.keys(packageLock.packages)
    assert.deepEqual(
      paths.filter((path) => path.includes('/node-linux-')),
      [],
    )
    assert.deepEqual(root.optionalDependencies, {})
    assert.deepEqual(packageLock.packages['']?.optionalDependencies, {})
    assert.ok(!paths.includes('node_modules/react-native'))
  })

  test('what is installed has all that it depends on', () => {
    const { packages } = evaluated().npmDeps.packageLock
    for (const [path, { dependencies = {} }] of Object.entries(packages)) {
      for (const name of Object.keys(dependencies)) {
        assert.ok(isFound(name, path), `${path} depends on ${name}`)
      }
    }

    /** As Node looks for it: in the package's own folder, then in those around it. */
    function isFound(name: string, from: string): boolean {
      if (`${from === '' ? '' : `${from}/`}node_modules/${name}` in packages) return true
      if (from === '') return false
      return isFound(name, from.slice(0, Math.max(0, from.lastIndexOf('/node_modules/'))))
    }
  })
})

test('flake.nix has the outputs that users look for', { skip: skipWithoutNixpkgsLib() }, () => {
  const { names, systems, program, overlay } = evaluate('./flake.nix') as Flake
  assert.deepEqual(names, {
    apps: ['default'],
    checks: ['check-config', 'package'],
    devShells: ['default'],
    nixosModules: ['default', 'narswarm'],
    overlays: ['default'],
    packages: ['default', 'narswarm'],
  })
  assert.deepEqual(systems, ['aarch64-darwin', 'aarch64-linux', 'x86_64-darwin', 'x86_64-linux'])
  assert.equal(program, '/stub/narswarm/bin/narswarm')
  assert.equal(overlay, 'narswarm')
})
