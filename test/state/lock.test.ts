import assert from 'node:assert/strict'
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { StateFileError } from '../../src/state/database.ts'
import { StateLockedError, lockStateDir } from '../../src/state/lock.ts'
import { tempDir } from '../kit/temp.ts'

const LOCK_MODULE = new URL('../../src/state/lock.ts', import.meta.url).href

/** Another process that holds the lock until it is killed. */
async function holder(t: TestContext, dir: string): Promise<ChildProcess> {
  const script = `
    const { lockStateDir } = await import(process.argv[1])
    globalThis.lock = lockStateDir(process.argv[2])
    process.stdout.write('locked')
    setInterval(() => {}, 1000)`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script, LOCK_MODULE, dir], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.after(() => child.kill('SIGKILL'))
  const [said] = (await Promise.race([once(child.stdout, 'data'), once(child, 'exit')])) as [unknown]
  assert.equal(String(said), 'locked')
  return child
}

test('a second process is refused and told who holds the lock; kill -9 of the holder frees it', async (t) => {
  const dir = await tempDir(t)
  const child = await holder(t, dir)
  assert.throws(
    () => lockStateDir(dir),
    (error: unknown) =>
      error instanceof StateLockedError &&
      error.pid === child.pid &&
      error.path === join(dir, 'lock.sqlite') &&
      error.message.includes(`pid ${child.pid}`),
  )
  child.kill('SIGKILL')
  await once(child, 'exit')
  lockStateDir(dir).release()
})

test('the lock is refused within one process too, and free after release', async (t) => {
  const dir = join(await tempDir(t), 'new', 'state')
  const lock = lockStateDir(dir)
  assert.throws(() => lockStateDir(dir), StateLockedError)
  // The refused attempt must not have dropped the first one's lock (POSIX locks go with any descriptor).
  assert.throws(() => lockStateDir(dir), StateLockedError)
  lock.release()
  lock.release()
  lockStateDir(dir).release()
})

test('a refused attempt in the holding process does not open the door to another process', async (t) => {
  const dir = await tempDir(t)
  const lock = lockStateDir(dir)
  t.after(() => lock.release())
  assert.throws(() => lockStateDir(dir), StateLockedError)
  const script = `
    const { lockStateDir } = await import(process.argv[1])
    try { lockStateDir(process.argv[2]); process.exitCode = 1 } catch (error) { process.exitCode = error.name === 'StateLockedError' ? 42 : 2 }`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script, LOCK_MODULE, dir], {
    stdio: 'inherit',
  })
  assert.deepEqual(await once(child, 'exit'), [42, null])
})

test('the directory and the lock are closed to others', async (t) => {
  const dir = join(await tempDir(t), 'state')
  const lock = lockStateDir(dir)
  t.after(() => lock.release())
  assert.equal((await stat(dir)).mode & 0o777, 0o700)
  assert.equal((await stat(join(dir, 'lock.sqlite'))).mode & 0o777, 0o600)
})

test('a holder on another machine is named with it', async (t) => {
  const dir = await tempDir(t)
  const lock = lockStateDir(dir)
  t.after(() => lock.release())
  await writeFile(join(dir, 'lock.pid'), '77 elsewhere\n')
  assert.throws(() => lockStateDir(dir), /locked by another narswarm \(pid 77 on "elsewhere"\): stop it/)
})

test('a state directory that cannot be had is told with what it must be', async (t) => {
  const file = join(await tempDir(t), 'file')
  await writeFile(file, 'no folder')
  assert.throws(
    () => lockStateDir(join(file, 'state')),
    (error: unknown) =>
      error instanceof StateFileError &&
      error.path === join(file, 'state', 'lock.sqlite') &&
      /cannot be locked \(ENOTDIR.*must be on a disk that can be written and has locks/.test(error.message),
  )
})
