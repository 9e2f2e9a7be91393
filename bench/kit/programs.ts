/** NARs of real programs and libraries: of this machine's, packed once and kept, since xz needs minutes for it. */
import { randomBytes } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { access, copyFile, mkdir, open, readdir, rename, stat } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { layoutNar } from '../../src/nix/nar-layout.ts'
import type { NarDirectoryEntry } from '../../src/nix/nar-layout.ts'
import { encodeNix32 } from '../../src/nix/nix32.ts'
import { parseStorePathBaseName } from '../../src/nix/store-path.ts'
import { streamNar } from '../../src/store/nar-stream.ts'
import type { BenchPackage } from './nar.ts'
import { call } from './program.ts'
import { note } from './report.ts'

export interface ProgramNar {
  readonly nar: string
  /** By `xz -6`, as Nix packs by default. */
  readonly xz: string
  /** By `zstd -3`. */
  readonly zstd: string
}

const TRIPLE = `${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu`
const FOLDERS = ['/usr/bin', `/usr/lib/${TRIPLE}`]
const NAR_BYTES = 100_000_000
const ELF_MAGIC = '\u007fELF'

/** So many of about 100 MB, or fewer when the machine has not as many programs. */
export async function programNars(count: number): Promise<ProgramNar[]> {
  const dir = resolve('.cache/bench-programs')
  await mkdir(dir, { recursive: true })
  const paths = Array.from({ length: count }, (_, at) => join(dir, `${at}.nar`))
  const missing = (await Promise.all(paths.map((path) => exists(`${path}.zst`)))).includes(false)
  if (missing) {
    note('  packing programs of this machine, once: some minutes')
    const files = await programs()
    await Promise.all(
      paths.map((path, at) =>
        pack(
          path,
          files.filter((_, index) => index % count === at),
        ),
      ),
    )
  }
  return paths.map((nar) => ({ nar, xz: `${nar}.xz`, zstd: `${nar}.zst` }))
}

async function pack(nar: string, files: readonly ProgramFile[]): Promise<void> {
  const entries: NarDirectoryEntry[] = []
  let bytes = 0
  for (const { path, size } of files) {
    if (bytes + size > NAR_BYTES) continue
    bytes += size
    const name = Buffer.from(`${entries.length}-${basename(path)}`)
    entries.push({ name, node: { type: 'regular', size, executable: true, path } })
  }
  const layout = layoutNar({ type: 'directory', entries })
  const signal = AbortSignal.timeout(600_000)
  await pipeline(
    Readable.from(streamNar(layout, { start: 0, end: layout.narSize }, { signal })),
    createWriteStream(nar),
  )
  await call('xz', ['-6', '-k', '-f', '-q', nar])
  await call('zstd', ['-3', '-k', '-f', '-q', nar, '-o', `${nar}.zst.tmp`])
  await rename(`${nar}.zst.tmp`, `${nar}.zst`)
}

/** A package of this machine's compilers, libraries and programs, the largest first, of so many bytes at most. */
export async function makeProgramPackage(dir: string, name: string, maxBytes: number): Promise<BenchPackage> {
  const storePath = parseStorePathBaseName(`${encodeNix32(randomBytes(20))}-${name}`)
  const path = join(dir, storePath)
  await mkdir(path, { recursive: true })
  const gcc = `/usr/lib/gcc/${TRIPLE}`
  const versions = (await exists(gcc)) ? await readdir(gcc) : []
  const files = await programs([...FOLDERS, ...versions.map((version) => join(gcc, version))])
  let bytes = 0
  for (const { path: program, size } of files.toSorted((a, b) => b.size - a.size)) {
    if (bytes + size > maxBytes) continue
    bytes += size
    await copyFile(program, join(path, basename(program)))
  }
  return { storePath, references: [], path }
}

interface ProgramFile {
  readonly path: string
  readonly size: number
}

/** In the order of their names. */
export async function programs(folders: readonly string[] = FOLDERS): Promise<ProgramFile[]> {
  const found: ProgramFile[] = []
  for (const folder of folders) {
    for (const entry of (await readdir(folder, { withFileTypes: true })).toSorted((a, b) =>
      a.name < b.name ? -1 : 1,
    )) {
      const path = join(folder, entry.name)
      if (!entry.isFile() || !(await isProgram(path))) continue
      found.push({ path, size: (await stat(path)).size })
    }
  }
  return found
}

async function isProgram(path: string): Promise<boolean> {
  const file = await open(path)
  try {
    const { buffer } = await file.read(Buffer.alloc(4), 0, 4, 0)
    return buffer.toString('latin1') === ELF_MAGIC
  } finally {
    await file.close()
  }
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}
