/** The caller stops waiting when its signal says so; the flight goes on for the others. */
export async function abandonable<T>(flight: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted()
  let stop: () => void = () => {}
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(signal.reason instanceof Error ? signal.reason : new Error('aborted'))
    signal.addEventListener('abort', stop, { once: true })
  })
  try {
    return await Promise.race([flight, aborted])
  } finally {
    signal.removeEventListener('abort', stop)
  }
}
