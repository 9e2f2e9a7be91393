import { chmod, open } from 'node:fs/promises'

/** One bit of a byte of a file in a store, where files are read-only; the same once more takes it back. */
export async function flipByte(path: string, at: number): Promise<void> {
  await chmod(path, 0o644)
  const file = await open(path, 'r+')
  const byte = Buffer.alloc(1)
  await file.read(byte, 0, 1, at)
  byte.writeUInt8(byte.readUInt8() ^ 1)
  await file.write(byte, 0, 1, at)
  await file.close()
  await chmod(path, 0o444)
}
