import { spawn } from 'node:child_process'
import { fromDuplex, type Codec } from './codec.ts'
import { DecoderMissingError } from './errors.ts'

/** Decodes xz; framing and memory were judged before by the walker. */
export type XzDecoder = () => Codec

/**
 * The native decoder, in threads of its own, where its platform package is installed: npm leaves that out without
 * a word when npm itself runs on a Node below 22 (its `engines`). The `xz` of the system serves then.
 */
export async function loadXzDecoder(): Promise<XzDecoder> {
  return (await nativeXz()) ?? commandXz
}

/** `undefined` where the platform has no build of it, or npm did not install it. */
export async function nativeXz(): Promise<XzDecoder | undefined> {
  try {
    const { createDecompressStream } = await import('@napi-rs/lzma/xz')
    return () => fromDuplex(createDecompressStream())
  } catch {
    return undefined
  }
}

export function commandXz(): Codec {
  const child = spawn('xz', ['--decompress', '--stdout', '--quiet'], { stdio: ['pipe', 'pipe', 'ignore'] })
  const finished = new Promise<void>((resolve, reject) => {
    child.once('error', (cause) => {
      reject(
        new DecoderMissingError(
          'no xz decoder: neither the platform package of @napi-rs/lzma is installed nor is there an xz command on PATH',
          { cause },
        ),
      )
    })
    // Not 'close': that one waits until somebody has read all of stdout.
    child.once('exit', (code, signal) => {
      if (code === 0) resolve()
      else reject(new Error(`xz ended with ${signal ?? `exit code ${code}`}`))
    })
  })
  return {
    input: child.stdin,
    output: child.stdout,
    finished,
    close() {
      child.stdin.destroy()
      child.stdout.destroy()
      child.kill('SIGKILL')
    },
  }
}
