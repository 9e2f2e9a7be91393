/** Who does an operation: the narswarm that runs here, or else this process. */
import { connect } from 'node:net'
import { join } from 'node:path'
import type { Config } from '../config/config.ts'
import type { Operations } from '../operations/operations.ts'
import { createAdminClient, notReachable } from './admin-client.ts'
import type { CliContext, ConfigOption } from './context.ts'
import { createLineLog } from './line-log.ts'

export function adminSocketPath(config: Config): string {
  return join(config.stateDir, 'admin.sock')
}

/**
 * A state directory has one process, so the one that has it must be asked; while none runs, the work is done here, and
 * nothing listens meanwhile.
 *
 * @throws NotReachableError when the socket is there and not ours, StateLockedError when a narswarm is just starting
 */
export async function withOperations(
  context: CliContext,
  options: ConfigOption,
  work: (operations: Operations, config: Config) => Promise<void>,
): Promise<void> {
  const config = context.loadConfig(options)
  const socketPath = adminSocketPath(config)
  if (await isListening(socketPath)) {
    await work(createAdminClient(socketPath), config)
    return
  }
  const log = createLineLog(context.output, context.debug)
  const node = await context.deps.openNode(config, { log })
  try {
    await work(node.operations, config)
  } finally {
    await node.close(0)
  }
}

function isListening(socketPath: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = connect(socketPath)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' || error.code === 'ECONNREFUSED') resolve(false)
      else reject(notReachable(socketPath, error))
    })
  })
}
