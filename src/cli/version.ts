import type { Command } from 'commander'
import { addJsonOption } from './context.ts'
import type { CliContext, JsonOption } from './context.ts'

export function addVersion(program: Command, { deps, output }: CliContext): void {
  addJsonOption(program.command('version'))
    .description('print versions')
    .action(({ json }: JsonOption) => {
      const { node, openssl, sqlite } = process.versions
      if (json === true) output.json({ version: 1, narswarm: deps.version, node, openssl, sqlite })
      else
        output.result(
          `narswarm ${deps.version} (Node ${node}, OpenSSL ${openssl}, SQLite ${sqlite ?? 'unknown'})`,
        )
    })
}
