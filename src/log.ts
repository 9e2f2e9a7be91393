/**
 * What a part of narswarm may say to the log. pino's logger has this shape; nothing but `main` knows pino.
 * Fields first, then one clear sentence. Store path names and peers' addresses are fields, never in the sentence.
 */
export interface Log {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

/** Whatever was thrown, in words: for the log, and for the message of an error that names it as its cause. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
