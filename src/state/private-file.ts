import { chmodSync, closeSync, openSync, statSync } from 'node:fs'

/**
 * Makes sure that `path` exists and is ours alone (0600). To be called before SQLite sees the file: -wal and -shm get
 * the mode of the main file.
 */
export function createPrivateFile(path: string): void {
  try {
    closeSync(openSync(path, 'wx', 0o600))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    // By path, never by a descriptor: closing one drops every POSIX lock this process has on the file.
    if ((statSync(path).mode & 0o077) !== 0) chmodSync(path, 0o600)
  }
}
