import { execFile } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import type { Place } from '../../e2e/kit/place.ts'

/** A network of its own, seen by the processes that are put into it and by nobody else on this machine. */
export interface Namespace {
  readonly name: string
  /** `ip …` in it. */
  ip(...words: string[]): Promise<string>
  /** `tc …` in it. */
  tc(...words: string[]): Promise<string>
  /** The process number is that of the program. */
  readonly place: Place
  /** SIGKILL for all that still runs in it, then it goes. */
  remove(): Promise<void>
}

/** The process that made it is in the name: what a killed run left behind is found by that. */
const NAME = /^narswarm-lan-(\d+)-/
let made = 0

export async function createNamespace(what: string): Promise<Namespace> {
  const name = `narswarm-lan-${process.pid}-${++made}-${what}`
  await call('ip', ['netns', 'add', name])
  const namespace: Namespace = {
    name,
    ip: (...words) => call('ip', ['-n', name, ...words]),
    tc: (...words) => call('tc', ['-n', name, ...words]),
    place: (program, args) => ['nsenter', [`--net=/run/netns/${name}`, '--', program, ...args]],
    remove: () => remove(name),
  }
  await namespace.ip('link', 'set', 'lo', 'up')
  return namespace
}

/** Those of runs that did not come to their end. */
export async function removeLeftNamespaces(): Promise<void> {
  const list = await call('ip', ['netns', 'list'])
  for (const [name = ''] of list.split('\n').map((line) => line.split(' '))) {
    const [, pid] = NAME.exec(name) ?? []
    if (pid !== undefined && !isAlive(Number(pid))) await remove(name)
  }
}

async function remove(name: string): Promise<void> {
  // A process that is being killed may have begun another one.
  for (let pids = await processesIn(name); pids.length > 0; pids = await processesIn(name)) {
    for (const pid of pids) kill(pid)
    await sleep(20)
  }
  await call('ip', ['netns', 'delete', name])
}

async function processesIn(name: string): Promise<number[]> {
  return (await call('ip', ['netns', 'pids', name])).split('\n').filter(Boolean).map(Number)
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It ended by itself.
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

export async function call(program: string, args: readonly string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(program, args, { timeout: 10_000 })
  return stdout
}
