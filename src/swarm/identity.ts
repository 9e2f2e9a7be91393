import { randomBytes } from 'node:crypto'
import { mkdir, open, readFile, rename } from 'node:fs/promises'
import { dirname } from 'node:path'
import { generateKeyPair, privateKeyFromProtobuf, privateKeyToProtobuf } from '@libp2p/crypto/keys'
import type { PrivateKey } from '@libp2p/interface'

/** The key file is there and is no key of libp2p. Never overwritten: the peer id is what others were told. */
class IdentityFileError extends Error {
  override readonly name = 'IdentityFileError'
}

/**
 * The node's key, made on first use, so that the peer id survives restarts. File: PrivateKey protobuf of libp2p's
 * peer-ids specification, mode 0600, as every libp2p implementation reads it.
 *
 * @throws IdentityFileError
 */
export async function loadIdentity(path: string): Promise<PrivateKey> {
  const stored = await readFile(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw error
  })
  if (stored === undefined) return createIdentity(path)
  try {
    return privateKeyFromProtobuf(stored)
  } catch (cause) {
    throw new IdentityFileError(
      `expected a libp2p private key (protobuf) in ${path}, found ${stored.byteLength} other bytes`,
      {
        cause,
      },
    )
  }
}

async function createIdentity(path: string): Promise<PrivateKey> {
  const key = await generateKeyPair('Ed25519')
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  const temporary = `${path}.${randomBytes(4).toString('hex')}.tmp`
  const file = await open(temporary, 'wx', 0o600)
  try {
    await file.writeFile(privateKeyToProtobuf(key))
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(temporary, path)
  return key
}
