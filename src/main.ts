/** The program: its world handed to the command line. What a narswarm is made of is put together in `wiring/`. */
import { randomBytes } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { tuneGarbageCollector } from './config/garbage-collector.ts'
import { CONFIG_MAX_BYTES } from './limits.ts'

interface Program {
  readonly name: string
  readonly version: string
}

/** Runs one command; sets the exit code. */
export async function main(argv: readonly string[]): Promise<void> {
  tuneGarbageCollector()
  // Not imported above: to load a program makes V8's young space as large as it may be, for good.
  const [{ createLog }, { runCli }, { loadConfig }, { openNode }] = await Promise.all([
    import('./cli/log.ts'),
    import('./cli/program.ts'),
    import('./config/load.ts'),
    import('./wiring/node.ts'),
  ])
  const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as Program
  process.exitCode = await runCli(argv, {
    env: process.env,
    cwd: process.cwd(),
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    version,
    command: [process.execPath, ...process.argv.slice(1, 2)],
    randomBytes,
    loadConfig: (input) =>
      loadConfig({ ...input, env: process.env, read: readText, isRoot: process.getuid?.() === 0 }),
    createLog: (config) => createLog(config.log, process.stderr),
    openNode: (config, deps) => openNode(config, version, deps),
    onSignal(listener) {
      const names = ['SIGINT', 'SIGTERM'] as const
      const listeners = names.map((name) => [name, () => listener(name)] as const)
      for (const [name, one] of listeners) process.on(name, one)
      return () => {
        for (const [name, one] of listeners) process.off(name, one)
      }
    },
    exit: (code) => process.exit(code),
  })
}

/** Undefined when it is not there, not for us, or larger than any configuration. */
function readText(path: string): string | undefined {
  try {
    if (statSync(path).size > CONFIG_MAX_BYTES) return undefined
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}

if (import.meta.main) await main(process.argv.slice(2))
