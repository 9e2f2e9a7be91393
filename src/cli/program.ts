/** The command tree: which verbs there are, and what their failures mean for a shell. */
import { resolve } from 'node:path'
import { Command, CommanderError } from 'commander'
import { addCheckConfig } from './check-config.ts'
import { addDemo } from './demo.ts'
import type { CliContext } from './context.ts'
import type { CliDeps } from './deps.ts'
import { SignalError } from './errors.ts'
import { EXIT, exitCodeOf } from './exit-code.ts'
import { addExplain } from './explain.ts'
import { addFeedCreate } from './feed-create.ts'
import { addFeedStatus } from './feed-status.ts'
import { addGc } from './gc.ts'
import { addKeygen } from './keygen.ts'
import { createOutput } from './output.ts'
import type { Output } from './output.ts'
import { addPeerAdd, addPeerBan, addPeerRemove, addPeerUnban } from './peer-change.ts'
import { addPeerList } from './peer-list.ts'
import { addPublish } from './publish.ts'
import { addServe } from './serve.ts'
import { addStatus } from './status.ts'
import { addVerify } from './verify.ts'
import { addVersion } from './version.ts'

/**
 * Never throws: what fails is told in one line on stderr.
 *
 * @param argv without the program's own name
 * @returns the exit code
 */
export async function runCli(argv: readonly string[], deps: CliDeps): Promise<number> {
  const output = createOutput(deps)
  const stop = new AbortController()
  const debug = deps.env['NARSWARM_DEBUG'] === '1'
  const forget = deps.onSignal((name) => {
    const reason = new SignalError(name)
    if (stop.signal.aborted) deps.exit(exitCodeOf(reason))
    stop.abort(reason)
  })
  const context: CliContext = {
    deps,
    output,
    signal: stop.signal,
    debug,
    loadConfig: ({ config, stateDir }, flags = {}) =>
      deps.loadConfig({
        ...(config === undefined ? {} : { file: config }),
        flags: stateDir === undefined ? flags : { ...flags, state_dir: resolve(deps.cwd, stateDir) },
      }),
  }
  try {
    await createProgram(context).parseAsync(argv, { from: 'user' })
    return EXIT.done
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.done : EXIT.usage
    output.progress('')
    // Whatever a broken-off call throws: the signal is why.
    const cause: unknown = stop.signal.aborted ? stop.signal.reason : error
    tell(cause, output, debug)
    return exitCodeOf(cause)
  } finally {
    output.progress('')
    forget()
  }
}

function createProgram(context: CliContext): Command {
  const { deps, output } = context
  const program = new Command('narswarm')
    .description(
      'A Nix binary cache on localhost that gets packages from whoever is near and trusts none of them.',
    )
    .version(`narswarm ${deps.version}`, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'show help')
    .helpCommand('help [verb]', 'show help')
    .exitOverride()
    .showHelpAfterError(false)
    .configureHelp({ showGlobalOptions: false })
    .configureOutput({
      writeOut: (text) => deps.stdout.write(text),
      writeErr: (text) => deps.stderr.write(text),
      outputError: (text) => output.complain(text.replace(/^error: /, '').trimEnd()),
      getOutHelpWidth: () => deps.stdout.columns ?? 80,
      getErrHelpWidth: () => deps.stderr.columns ?? 80,
    })
    .addHelpText(
      'after',
      `
Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 verification failed,
4 not reachable, 130 and 143 stopped by SIGINT and SIGTERM.
Environment: NARSWARM_CONFIG, NO_COLOR, NARSWARM_DEBUG=1 (stacks).`,
    )

  addServe(program, context)
  addStatus(program, context)
  addExplain(program, context)
  addVerify(program, context)
  addPublish(program, context)
  addGc(program, context)
  const peer = program.command('peer').description('see who is near, add and ban')
  addPeerList(peer, context)
  addPeerAdd(peer, context)
  addPeerRemove(peer, context)
  addPeerBan(peer, context)
  addPeerUnban(peer, context)
  const feed = program.command('feed').description('make feeds, and look at them')
  addFeedCreate(feed, context)
  addFeedStatus(feed, context)
  addKeygen(program, context)
  addCheckConfig(program, context)
  addDemo(program, context)
  addVersion(program, context)
  return program
}

function tell(error: unknown, output: Output, debug: boolean): void {
  if (!(error instanceof Error)) {
    output.complain(String(error))
    return
  }
  if (!debug) {
    output.complain(error.message)
    return
  }
  output.complain(error.stack ?? error.message)
  for (let { cause } = error; cause instanceof Error; { cause } = cause) {
    output.note(`caused by ${cause.stack ?? cause.message}`)
  }
}
