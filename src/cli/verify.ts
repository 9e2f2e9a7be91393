import type { Command } from 'commander'
import { VerificationError } from '../operations/operations.ts'
import { withOperations } from './connect.ts'
import { addConfigOption, addJsonOption } from './context.ts'
import type { CliContext, ConfigOption, JsonOption } from './context.ts'
import { UsageError } from './errors.ts'
import { resolvePathArgument } from './path-argument.ts'
import { count, formatBytes } from './units.ts'

interface VerifyOptions extends ConfigOption, JsonOption {
  readonly spool?: true
}

export function addVerify(program: Command, context: CliContext): void {
  addJsonOption(addConfigOption(program.command('verify')))
    .description('read a store path from wherever it lies, and prove its signature, hash and CID anew')
    .argument('[path]', 'store path, or a link to one, or its hash part')
    .option('--spool', 'instead: hash every NAR of the spool anew, and remove those that are wrong')
    .addHelpText(
      'after',
      `
Exits with 3 when the bytes are not what was signed, or nobody trusted signed them; with --spool
when something in it was wrong.

Examples:
  narswarm verify ./result
  narswarm verify /nix/store/7c5zrpajq5ydlg2zbbnfs1l4lwbxsdqq-hello-2.12
  narswarm verify --spool`,
    )
    .action((path: string | undefined, options: VerifyOptions) => {
      if ((path === undefined) !== (options.spool === true)) {
        throw new UsageError('expected a store path or --spool, and not both')
      }
      return path === undefined ? verifySpool(context, options) : verify(context, path, options)
    })
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

async function verifySpool(context: CliContext, options: VerifyOptions): Promise<void> {
  const { output, signal } = context
  await withOperations(context, options, async (operations) => {
    output.progress('hashing the spool')
    const { nars, bytes, bad } = await operations.verifySpool({ signal })
    if (options.json === true) {
      output.json({
        version: 1,
        nars,
        bytes,
        bad: bad.map(({ narHash, what, reason }) => ({ nar_hash: `sha256:${narHash}`, what, reason })),
      })
    } else {
      for (const { narHash, what, reason } of bad) {
        output.result(`sha256:${narHash}: ${what === 'bytes' ? 'removed' : 'indexed anew'}: ${reason}`)
      }
    }
    if (bad.length > 0) {
      throw new VerificationError(
        `${bad.length} of ${count(nars, 'NAR')} in the spool were not as they should be`,
      )
    }
    if (options.json !== true) output.result(`spool: ${count(nars, 'NAR')}, ${formatBytes(bytes)}: good`)
  })
}
