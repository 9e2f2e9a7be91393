/** A folder over HTTP at so many bytes a second, over all connections together. */
import { serve } from './child.ts'

export async function startLimited(
  dir: string,
  bytesPerSecond: number,
): Promise<{ url: string; stop(): Promise<void> }> {
  const server = await serve<{ port: number }>('limited-server', { dir, bytesPerSecond })
  return { url: `http://127.0.0.1:${server.ready.port}`, stop: () => server.stop() }
}
