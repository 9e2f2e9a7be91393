import type { Command } from 'commander'
import { AUDIT_SAMPLE_DEFAULT_COUNT } from '../limits.ts'
import { VerificationError } from '../operations/operations.ts'
import { withOperations } from './connect.ts'
import { addConfigOption, addJsonOption } from './context.ts'
import type { CliContext, ConfigOption, JsonOption } from './context.ts'
import { UsageError } from './errors.ts'
import { resolvePathArgument } from './path-argument.ts'
import { count, formatBytes } from './units.ts'
import { verifyFeed } from './verify-feed.ts'

interface VerifyOptions extends ConfigOption, JsonOption {
  readonly spool?: true
  readonly feed?: string
  readonly sample?: string
  readonly all?: true
}

export function addVerify(program: Command, context: CliContext): void {
  addJsonOption(addConfigOption(program.command('verify')))
    .description('read a store path from wherever it lies, and prove its signature, hash and CID anew')
    .argument('[path]', 'store path, or a link to one, or its hash part')
    .option('--spool', 'instead: hash every NAR of the spool anew, and remove those that are wrong')
    .option('--feed <name>', 'instead: fetch entries of a followed feed, and prove the CIDs it tells')
    .option(
      '--sample <count>',
      `with --feed: so many, picked at random (default: ${AUDIT_SAMPLE_DEFAULT_COUNT})`,
    )
    .option('--all', 'with --feed: all of its entries')
    .addHelpText(
      'after',
      `
Exits with 3 when the bytes are not what was signed, or nobody trusted signed them; with --spool
or --feed when something was wrong.

Examples:
  narswarm verify ./result
  narswarm verify /nix/store/7c5zrpajq5ydlg2zbbnfs1l4lwbxsdqq-hello-2.12
  narswarm verify --spool
  narswarm verify --feed example.org/main --sample 20`,
    )
    .action((path: string | undefined, options: VerifyOptions) => {
      const { spool, feed, sample, all } = options
      if ([path, spool, feed].filter((what) => what !== undefined).length !== 1) {
        throw new UsageError('expected one of: a store path, --spool, --feed')
      }
      if (feed === undefined && (sample !== undefined || all !== undefined)) {
        throw new UsageError('--sample and --all go with --feed')
      }
      if (feed !== undefined) return verifyFeed(context, { ...options, feed })
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
