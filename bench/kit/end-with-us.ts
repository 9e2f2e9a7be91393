/** Processes that were started here do not outlive the bench, however it ends. */
const started = new Set<number>()

/** @returns to be called when it has ended: its number is soon another's */
export function endWithUs(pid: number | undefined): () => void {
  if (pid === undefined) return () => {}
  if (started.size === 0 && process.listenerCount('exit', killAll) === 0) process.on('exit', killAll)
  started.add(pid)
  return () => {
    started.delete(pid)
  }
}

function killAll(): void {
  for (const pid of started) {
    try {
      // nginx ends its worker only when asked to; one that was stopped hears it when it goes on.
      process.kill(pid, 'SIGTERM')
      process.kill(pid, 'SIGCONT')
    } catch {
      // It ended by itself.
    }
  }
}
