/** Protobuf by hand, so that a test can write what no encoder would. */

export function varint(value: bigint | number): Buffer {
  const bytes: number[] = []
  let rest = BigInt(value)
  for (; rest >= 128n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128)
  return Buffer.from([...bytes, Number(rest)])
}

export function number(field: number, value: bigint | number): Buffer {
  return Buffer.concat([varint(field * 8), varint(value)])
}

export function bytes(field: number, value: Uint8Array): Buffer {
  return Buffer.concat([varint(field * 8 + 2), varint(value.length), value])
}

export interface LinkFields {
  hash?: Uint8Array
  name?: string
  tsize?: bigint | number
}

/** A PBNode's field 2. */
export function pbLink({ hash, name, tsize }: LinkFields): Buffer {
  return bytes(
    2,
    Buffer.concat([
      hash === undefined ? Buffer.alloc(0) : bytes(1, hash),
      name === undefined ? Buffer.alloc(0) : bytes(2, Buffer.from(name)),
      tsize === undefined ? Buffer.alloc(0) : number(3, tsize),
    ]),
  )
}

/** A UnixFS message of type, filesize and blocksizes. */
export function unixfs(
  type: number,
  fileSize: bigint | number,
  blockSizes: readonly (bigint | number)[],
): Buffer {
  return Buffer.concat([number(1, type), number(3, fileSize), ...blockSizes.map((size) => number(4, size))])
}
