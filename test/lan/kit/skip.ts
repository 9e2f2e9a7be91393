import { spawnSync } from 'node:child_process'
import { skipWithoutNix } from '../../kit/nix.ts'

/** For a test's `skip` option: whether hosts can be made here. */
export function skipWithoutLan(): string | false {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) {
    return 'needs root on Linux, to make network namespaces'
  }
  for (const program of ['ip', 'tc', 'nsenter']) {
    const { error } = spawnSync(program, ['-V'], { stdio: 'ignore' })
    if (error !== undefined) return `no ${program} on PATH (Debian: apt-get install iproute2 util-linux)`
  }
  const probe = spawnSync('unshare', [
    '--net',
    'ip',
    'link',
    'add',
    'one0',
    'type',
    'veth',
    'peer',
    'name',
    'two0',
  ])
  if (probe.status !== 0) {
    return `this machine lets us make no network namespace with veth links: ${String(probe.stderr ?? '').trim()}`
  }
  return skipWithoutNix()
}
