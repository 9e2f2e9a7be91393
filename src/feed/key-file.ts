/** Secret keys as files: one key a file and a purpose, made once, readable by their owner alone. */
import { messageOf } from '../log.ts'
import { constants } from 'node:fs'
import { mkdir, open, realpath } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { FEED_KEY_FILE_MAX_BYTES } from '../limits.ts'
import { syncDirectory } from './durable-file.ts'
import { FeedKeyError } from './errors.ts'
import { feedFileStem, type FeedName } from './feed-name.ts'
import { formatFeedSecretKey, parseFeedSecretKey, type FeedSecretKey } from './vkey.ts'

/** The root key may live on another machine once the feed is made; log and heartbeat sign with every change. */
export type KeyPurpose = 'root' | 'log' | 'heartbeat'

export function keyFilePath(keysDir: string, name: FeedName, purpose: KeyPurpose): string {
  return join(keysDir, `${feedFileStem(name)}.${purpose}.key`)
}

/**
 * Mode 0400, never over a file that is there.
 *
 * @throws FeedKeyError
 */
export async function writeKeyFile(path: string, key: FeedSecretKey): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  try {
    const file = await open(path, 'wx', 0o400)
    try {
      await file.writeFile(`${formatFeedSecretKey(key)}\n`)
      await file.sync()
    } finally {
      await file.close()
    }
  } catch (cause) {
    throw new FeedKeyError(`key file ${path}: ${messageOf(cause)}`, { cause })
  }
  await syncDirectory(dirname(path))
}

/**
 * Refuses a link, a file that its group or others may read, and one in the Nix store, where every user of the machine
 * reads it and every copy of the system carries it.
 *
 * @throws FeedKeyError
 */
export async function readKeyFile(path: string, storeDir: string): Promise<FeedSecretKey> {
  try {
    const real = await realpath(path)
    if (real === storeDir || real.startsWith(`${storeDir}/`)) {
      throw new FeedKeyError(`is in the Nix store, where everybody can read it: make a new key elsewhere`)
    }
    const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
    try {
      const { mode, size } = await file.stat()
      if ((mode & constants.S_IFMT) !== constants.S_IFREG) throw new FeedKeyError('expected a regular file')
      if ((mode & 0o077) !== 0) {
        throw new FeedKeyError(`expected mode 0400, got 0${(mode & 0o777).toString(8)}: chmod 400 it`)
      }
      if (size > FEED_KEY_FILE_MAX_BYTES) throw new FeedKeyError(`expected one key, got ${size} bytes`)
      return parseFeedSecretKey(await file.readFile('utf8'))
    } finally {
      await file.close()
    }
  } catch (cause) {
    const link = (cause as NodeJS.ErrnoException).code === 'ELOOP'
    throw new FeedKeyError(
      `key file ${path}: ${link ? 'expected a file, got a symbolic link' : messageOf(cause)}`,
      {
        cause,
      },
    )
  }
}
