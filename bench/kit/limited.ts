/** Slow lines, each shared by all its connections. */
import { serve } from './child.ts'

/** A folder over HTTP at so many bytes a second. */
export async function startLimited(
  dir: string,
  bytesPerSecond: number,
): Promise<{ url: string; stop(): Promise<void> }> {
  const server = await serve<{ port: number }>('limited-server', { dir, bytesPerSecond })
  return { url: `http://127.0.0.1:${server.ready.port}`, stop: () => server.stop() }
}

/** Another way to the server at this URL: what it answers comes at so many bytes a second. */
export async function startLink(
  url: string,
  bytesPerSecond: number,
): Promise<{ url: string; stop(): Promise<void> }> {
  const link = await serve<{ port: number }>('limited-link', {
    port: Number(new URL(url).port),
    bytesPerSecond,
  })
  return { url: `http://127.0.0.1:${link.ready.port}`, stop: () => link.stop() }
}
