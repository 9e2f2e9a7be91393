import { open, unlink } from 'node:fs/promises'
import type { Command } from 'commander'
import { formatPublicKey, formatSecretKey, generateSecretKey, KeyError } from '../nix/key.ts'
import type { SecretKey } from '../nix/key.ts'
import { quote } from '../nix/quote.ts'
import type { CliContext } from './context.ts'
import { UsageError } from './errors.ts'

export function addKeygen(program: Command, context: CliContext): void {
  program
    .command('keygen')
    .description('make a key pair for signing store paths, as Nix uses it')
    .argument('<name>', "the key's name, by custom your host and a number: cache.example.org-1")
    .option('--out <file>', 'file for the secret key (default: NAME.secret)')
    .addHelpText(
      'after',
      `
The secret key is written to a new file of mode 0400; the public key goes to stdout. The same
as nix-store --generate-binary-cache-key, and read by it.

Examples:
  narswarm keygen cache.example.org-1
  narswarm keygen cache.example.org-1 --out /etc/nix/signing.key
  nix store sign --key-file cache.example.org-1.secret --recursive ./result`,
    )
    .action((name: string, { out }: { out?: string }) => keygen(context, name, out))
}

async function keygen({ deps, output }: CliContext, name: string, out: string | undefined): Promise<void> {
  // Of all the characters a key's name may have, this one would put its file elsewhere.
  if (out === undefined && name.includes('/')) {
    throw new UsageError(`expected --out with a name that contains '/': ${quote(name)}`)
  }
  const key = makeKey(name, deps.randomBytes)
  const file = out ?? `${name}.secret`
  await writeNewFile(file, formatSecretKey(key))
  output.note(`secret key: ${file} (keep it to yourself)`)
  output.result(formatPublicKey(key.publicKey))
}

function makeKey(name: string, randomBytes: (n: number) => Uint8Array): SecretKey {
  try {
    return generateSecretKey(name, randomBytes)
  } catch (error) {
    if (error instanceof KeyError) throw new UsageError(error.message, { cause: error })
    throw error
  }
}

/** Neither a file nor a link that is there already is touched. */
async function writeNewFile(path: string, text: string): Promise<void> {
  const file = await open(path, 'wx', 0o400)
  try {
    await file.writeFile(text)
    await file.sync()
  } catch (error) {
    await unlink(path)
    throw error
  } finally {
    await file.close()
  }
}
