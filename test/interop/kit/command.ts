import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'

const COMMAND_DEADLINE_MS = 60_000
const DAEMON_DEADLINE_S = 300
const KILL_AFTER_S = 10

export type Input = AsyncIterable<Uint8Array> | Iterable<Uint8Array>

export interface CommandOptions {
  readonly env?: NodeJS.ProcessEnv
  readonly input?: Input
  /** Gets stdout instead of the caller. */
  readonly onBytes?: (bytes: Uint8Array) => void
}

/** A command that ends in time and well. @returns its stdout, without the space around it */
export async function run(
  program: string,
  args: readonly string[],
  { env = {}, input, onBytes }: CommandOptions = {},
): Promise<string> {
  const child = spawn(program, args, {
    env: { ...process.env, ...env },
    timeout: COMMAND_DEADLINE_MS,
    killSignal: 'SIGKILL',
  })
  const told: Buffer[] = []
  const complaints: Buffer[] = []
  child.stdout.on('data', (bytes: Buffer) => {
    if (onBytes === undefined) told.push(bytes)
    else onBytes(bytes)
  })
  child.stderr.on('data', (bytes: Buffer) => complaints.push(bytes))
  const closed = once(child, 'close')
  // A command that fails before it has read everything says why on stderr, and that is the better message.
  const fed = pipeline(Readable.from(input ?? []), child.stdin).catch((error: unknown) => error)
  const [code, killedBy] = (await closed) as [number | null, string | null]
  if (code !== 0) {
    const why = Buffer.concat(complaints).toString().slice(-2000)
    throw new Error(`${program} ${args.join(' ')} ended with ${code ?? killedBy}: ${why}`)
  }
  const feeding = await fed
  if (feeding instanceof Error) throw feeding
  return Buffer.concat(told).toString().trim()
}

/**
 * How to start a program that stays, so that it ends whatever becomes of this test: SIGTERM is handed on and followed by
 * SIGKILL, and after some minutes it comes by itself.
 */
export function bounded(program: string, args: readonly string[]): [program: string, ...args: string[]] {
  return ['timeout', '--foreground', '-k', String(KILL_AFTER_S), String(DAEMON_DEADLINE_S), program, ...args]
}
