/**
 * Preloaded (`node --import`) into the narswarm under torture, so that the program itself has no failpoints: wraps what
 * it changes its disk with, kills the process before, within or after the nth call of a kind, and lets such calls fail
 * while the driver says so. Only in the main thread: no other one writes.
 *
 * TORTURE_FAILPOINT is `<kind>:<before|within|after>:<n>`; windows come as messages over the IPC channel.
 */
import fs from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import { DatabaseSync, StatementSync } from 'node:sqlite'
import { isMainThread } from 'node:worker_threads'
import { FAILPOINT_MARK } from './failpoint-names.ts'
import type { FailpointKind, Windows } from './failpoint-names.ts'

type Call = (this: unknown, ...args: unknown[]) => unknown
type Methods = Record<string, Call>

const [armedKind, armedWhen, armedCount] = (process.env['TORTURE_FAILPOINT'] ?? '').split(':')
const realNow = Date.now
const realWriteSync = fs.writeSync
let windows: Windows = {}
let calls = 0

function die(): never {
  realWriteSync(2, `${FAILPOINT_MARK} ${armedKind}:${armedWhen}\n`)
  process.kill(process.pid, 'SIGKILL')
  // The signal is delivered before kill(2) returns, but to whichever thread: this one must do nothing more.
  for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
}

/** Whether this call is the one, and not a later one. */
function due(kind: FailpointKind): boolean {
  return kind === armedKind && ++calls === Number(armedCount)
}

function faultOf(kind: FailpointKind): Error | undefined {
  const code =
    windows.full === true && (kind === 'write' || kind === 'mkdir')
      ? 'ENOSPC'
      : windows.io === true && (kind === 'fsync' || kind === 'datasync')
        ? 'EIO'
        : undefined
  if (code !== undefined) return Object.assign(new Error(`${code}: by torture, ${kind}`), { code })
  if (windows.full === true && (kind === 'commit' || kind === 'run')) {
    // SQLITE_FULL, as node:sqlite tells it.
    return Object.assign(new Error('database or disk is full'), { code: 'ERR_SQLITE_ERROR', errcode: 13 })
  }
  return undefined
}

function wrap(owner: object, name: string, kindOf: (args: unknown[]) => FailpointKind | undefined): void {
  const methods = owner as Methods
  const real = methods[name]
  if (real === undefined) throw new Error(`there is no ${name} to wrap`)
  methods[name] = function (this: unknown, ...args) {
    const kind = kindOf(args)
    if (kind === undefined) return real.apply(this, args)
    const mine = due(kind)
    if (mine && armedWhen === 'before') die()
    const fault = faultOf(kind)
    const isAsync = kind !== 'commit' && kind !== 'run' && kind !== 'sync'
    if (fault !== undefined) {
      if (isAsync) return Promise.reject(fault)
      throw fault
    }
    if (mine && armedWhen === 'within') return tear.call(this, real, args)
    const result = real.apply(this, args)
    if (!mine) return result
    if (!(result instanceof Promise)) die()
    return result.then(die)
  }
}

/** Half of a write, or the call under way in its thread; then the end. */
function tear(this: unknown, real: Call, args: unknown[]): unknown {
  const [bytes, offset, length, position] = args
  if (bytes instanceof Uint8Array && typeof length === 'number') {
    const half = real.call(this, bytes, offset, Math.ceil(length / 2), position) as Promise<unknown>
    return half.then(die)
  }
  void real.apply(this, args)
  return die()
}

async function wrapFileHandle(): Promise<void> {
  const handle: FileHandle = await fs.promises.open(process.execPath)
  const prototype = Object.getPrototypeOf(handle) as object
  await handle.close()
  wrap(prototype, 'write', () => 'write')
  wrap(prototype, 'writeFile', () => 'write')
  wrap(prototype, 'sync', () => 'fsync')
  wrap(prototype, 'datasync', () => 'datasync')
}

if (isMainThread) {
  await wrapFileHandle()
  wrap(fs.promises, 'open', ([, flags]) =>
    flags === 'w' || (typeof flags === 'number' && (flags & fs.constants.O_CREAT) !== 0)
      ? 'create'
      : undefined,
  )
  wrap(fs.promises, 'rename', () => 'rename')
  wrap(fs.promises, 'rm', () => 'rm')
  wrap(fs.promises, 'mkdir', () => 'mkdir')
  wrap(fs, 'rmSync', () => 'sync')
  wrap(DatabaseSync.prototype, 'exec', ([sql]) => (/^\s*COMMIT/i.test(String(sql)) ? 'commit' : undefined))
  wrap(StatementSync.prototype, 'run', () => 'run')
  syncBuiltinESMExports()

  Date.now = () => realNow() + (windows.clockMs ?? 0)
  process.on('message', (message: Windows) => (windows = message))
  // Whatever became of the driver, nothing of the run outlives it.
  process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'))
  // Nothing but the program's own work keeps it alive.
  process.channel?.unref()
}
