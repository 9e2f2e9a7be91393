import assert from 'node:assert/strict'
import { test } from 'node:test'
import { narUrl } from '../../src/upstream/nar-url.ts'

const TAKEN: readonly [base: string, text: string, expected: string][] = [
  ['https://cache.nixos.org/', 'nar/0abc.nar.xz', 'https://cache.nixos.org/nar/0abc.nar.xz'],
  ['https://cache.nixos.org/', '/nar/0abc.nar.xz', 'https://cache.nixos.org/nar/0abc.nar.xz'],
  ['http://localhost:5000/a/b/', 'nar/x.nar', 'http://localhost:5000/a/b/nar/x.nar'],
  ['http://localhost/', 'nar/x.nar?narsize=12&c=%2F', 'http://localhost/nar/x.nar?narsize=12&c=%2F'],
  ['http://localhost/', 'http://localhost/nar/x.nar', 'http://localhost/nar/x.nar'],
  ['file:///srv/cache/', 'nar/x.nar', 'file:///srv/cache/nar/x.nar'],
]
for (const [base, text, expected] of TAKEN) {
  void test(`taken: ${text} of ${base}`, () => assert.equal(narUrl(new URL(base), text).href, expected))
}

const REFUSED: readonly [base: string, text: string][] = [
  ['https://cache.nixos.org/', 'http://169.254.169.254/x'],
  ['https://cache.nixos.org/', 'http://cache.nixos.org/x'],
  ['https://cache.nixos.org/', 'https://cache.nixos.org:8443/x'],
  ['https://cache.nixos.org/', 'https://user@cache.nixos.org/x'],
  ['https://cache.nixos.org/', '//evil/x'],
  ['https://cache.nixos.org/', '\\\\evil\\x'],
  ['https://cache.nixos.org/', 'file:///etc/passwd'],
  ['https://cache.nixos.org/', 'data:,x'],
  ['https://cache.nixos.org/', '../../x'],
  ['https://cache.nixos.org/', 'nar/%2e%2E/x'],
  ['https://cache.nixos.org/', 'nar/..\\x'],
  ['https://cache.nixos.org/', '..'],
  ['https://cache.nixos.org/', '?x'],
  ['https://cache.nixos.org/', ''],
  ['http://localhost/a/', '/b/x.nar'],
  ['file:///srv/cache/', '/etc/passwd'],
  ['file:///srv/cache/', 'file:///etc/passwd'],
  ['file:///srv/cache/', 'file://host/srv/cache/x'],
  ['file:///srv/cache/', 'http://localhost/x'],
]
for (const [base, text] of REFUSED) {
  void test(`refused: ${JSON.stringify(text)} of ${base}`, () => {
    assert.throws(() => narUrl(new URL(base), text), /URL: expected a file below/)
  })
}
