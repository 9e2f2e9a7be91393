import type { Command } from 'commander'
import type { CliContext } from './context.ts'
import { runDemo } from './demo/demo.ts'

export function addDemo(program: Command, context: CliContext): void {
  program
    .command('demo')
    .description('show the main job on this machine: publish, follow, fetch over IPFS, verify')
    .addHelpText(
      'after',
      `
Starts narswarm processes on loopback in a temporary folder and leaves nothing behind.
Neither Nix nor a network is needed.`,
    )
    .action(() => {
      const { deps, output, signal } = context
      const { command, randomBytes } = deps
      return runDemo({ command, randomBytes, say: (line) => output.result(line) }, { signal })
    })
}
