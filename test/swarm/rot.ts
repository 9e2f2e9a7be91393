import { open, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'

/** The file of this size below a folder. */
export async function findNar(dir: string, size: number): Promise<string> {
  for (const entry of await readdir(dir, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name)
    if (entry.isFile() && (await stat(path)).size === size) return path
  }
  throw new Error(`no file of ${size} bytes below ${dir}`)
}

export async function flipByte(path: string, offset: number): Promise<void> {
  const file = await open(path, 'r+')
  try {
    const byte = Buffer.alloc(1)
    await file.read(byte, 0, 1, offset)
    byte.writeUInt8(byte.readUInt8(0) ^ 1)
    await file.write(byte, 0, 1, offset)
  } finally {
    await file.close()
  }
}
