import type { Command } from 'commander'
import { withOperations } from './connect.ts'
import { addConfigOption, addJsonOption } from './context.ts'
import type { CliContext, ConfigOption, JsonOption } from './context.ts'
import { resolvePathArgument } from './path-argument.ts'
import { formatBytes } from './units.ts'

export function addVerify(program: Command, context: CliContext): void {
  addJsonOption(addConfigOption(program.command('verify')))
    .description('read a store path from wherever it lies, and prove its signature, hash and CID anew')
    .argument('<path>', 'store path, or a link to one, or its hash part')
    .addHelpText(
      'after',
      `
Exits with 3 when the bytes are not what was signed, or nobody trusted signed them.

Examples:
  narswarm verify ./result
  narswarm verify /nix/store/7c5zrpajq5ydlg2zbbnfs1l4lwbxsdqq-hello-2.12`,
    )
    .action((path: string, options: ConfigOption & JsonOption) => verify(context, path, options))
}

async function verify(context: CliContext, text: string, options: ConfigOption & JsonOption): Promise<void> {
  const { deps, output, signal } = context
  await withOperations(context, options, async (operations, { storeDir }) => {
    const asked = await resolvePathArgument(text, storeDir, deps.cwd)
    output.progress(`verifying ${text}`)
    const report = await operations.verify(asked, { signal })
    const { path, narHash, narSize, keys, cid, wrongCid } = report
    if (options.json === true) {
      output.json({
        version: 1,
        path,
        nar_hash: `sha256:${narHash}`,
        nar_size: narSize,
        keys,
        cid,
        ...(wrongCid === undefined ? {} : { wrong_cid: wrongCid }),
      })
    } else {
      output.result(`${path}: good`)
      output.result(`  NarHash    sha256:${narHash} (${formatBytes(narSize)})`)
      output.result(`  signed by  ${keys.join(', ')}`)
      output.result(`  CID        ${cid}`)
    }
    if (wrongCid !== undefined) {
      output.complain(
        `a feed or cache told another CID of it, ${wrongCid}: evidence against whoever told that`,
      )
    }
  })
}
