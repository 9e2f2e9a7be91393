import type { Command } from 'commander'
import type { Config } from '../config/config.ts'
import type { CliDeps } from './deps.ts'
import type { Output } from './output.ts'

/** What every verb works with. */
export interface CliContext {
  readonly deps: CliDeps
  readonly output: Output
  /** Aborts at SIGINT and SIGTERM, with a SignalError. */
  readonly signal: AbortSignal
  /** NARSWARM_DEBUG=1: stacks, and logs in full. */
  readonly debug: boolean
  /**
   * @param flags what else was said on the command line, as nested keys of the file
   * @throws ConfigError
   */
  loadConfig(options: ConfigOption, flags?: Readonly<Record<string, unknown>>): Config
}

export interface ConfigOption {
  readonly config?: string
  readonly stateDir?: string
}

export interface JsonOption {
  readonly json?: true
}

export function addConfigOption(command: Command): Command {
  return command
    .option('--config <file>', 'configuration file (default: $NARSWARM_CONFIG, see check-config)')
    .option('--state-dir <dir>', "narswarm's state, and the socket of the one that runs")
}

export function addJsonOption(command: Command): Command {
  return command.option('--json', 'print JSON for programs')
}
