import { crc32 } from 'node:zlib'

/** An .xz file of one block whose LZMA2 chunks are not compressed, with CRC32 as its check: no `xz` is needed for it. */
export function storeXz(bytes: Uint8Array): Buffer {
  const flags = Buffer.from([0, 1])
  const stream = [Buffer.from('fd377a585a00', 'hex'), flags, checksum(flags)]
  const records: Buffer[] = []
  if (bytes.length > 0) {
    // Its size, no flags, LZMA2 with a dictionary of 64 KiB, padding.
    const header = Buffer.from('0200210108000000', 'hex')
    const chunks: Uint8Array[] = []
    for (let at = 0; at < bytes.length; at += 65_536) {
      const chunk = bytes.subarray(at, at + 65_536)
      const head = Buffer.from([at === 0 ? 1 : 2, 0, 0])
      head.writeUInt16BE(chunk.length - 1, 1)
      chunks.push(head, chunk)
    }
    const body = Buffer.concat([...chunks, Buffer.alloc(1)])
    stream.push(header, checksum(header), body, padding(body.length), checksum(bytes))
    records.push(varint(header.length + 4 + body.length + 4), varint(bytes.length))
  }
  const content = Buffer.concat([Buffer.alloc(1), varint(records.length / 2), ...records])
  const index = Buffer.concat([content, padding(content.length)])
  const size = Buffer.alloc(4)
  size.writeUInt32LE(index.length / 4)
  const tail = Buffer.concat([size, flags])
  return Buffer.concat([...stream, index, checksum(index), checksum(tail), tail, Buffer.from('YZ')])
}

function checksum(bytes: Uint8Array): Buffer {
  const four = Buffer.alloc(4)
  four.writeUInt32LE(crc32(bytes))
  return four
}

function padding(length: number): Buffer {
  return Buffer.alloc(-length & 3)
}

function varint(value: number): Buffer {
  const bytes: number[] = []
  for (; value > 127; value = Math.floor(value / 128)) bytes.push((value & 127) | 128)
  return Buffer.from([...bytes, value])
}
