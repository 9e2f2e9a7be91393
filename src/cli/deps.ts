import type { Readable } from 'node:stream'
import type { Config } from '../config/config.ts'
import type { ConfigInput } from '../config/load.ts'
import type { Log } from '../log.ts'
import type { NarswarmNode, NodeDeps } from './node.ts'
import type { TextStream } from './output.ts'

export type SignalName = 'SIGINT' | 'SIGTERM'

/** What the command line gets from `main.ts`: all of its world but files. */
export interface CliDeps {
  readonly env: NodeJS.ProcessEnv
  readonly cwd: string
  readonly stdin: Readable
  readonly stdout: TextStream
  readonly stderr: TextStream
  readonly version: string
  /** How this very program is started, without its verb. */
  readonly command: readonly string[]
  readonly randomBytes: (n: number) => Uint8Array
  /** @throws ConfigError, with all that is wrong */
  loadConfig(chosen: Pick<ConfigInput, 'file' | 'flags'>): Config
  /** For `serve`. */
  createLog(config: Config): Log
  /** Locks the state directory. */
  openNode(config: Config, deps: NodeDeps): Promise<NarswarmNode>
  /** @returns what takes the listener away */
  onSignal(listener: (name: SignalName) => void): () => void
  /** Ends the process now. */
  exit(code: number): void
}
