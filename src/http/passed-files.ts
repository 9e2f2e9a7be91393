/**
 * Small files that are passed on from the upstreams as they are. Nobody signed them, so only such are passed on as Nix
 * or a person judges by themselves, under a name that can mean nothing else, and in a shape that Nix can parse. Whatever
 * goes wrong is a miss.
 */
import { messageOf } from '../log.ts'
import type { Log } from '../log.ts'
import type { CallOptions, SourceId } from '../source.ts'
import { abortable } from '../upstream/abortable.ts'

/** Of an upstream: `name` is a path below it, segments not escaped. */
export interface FileSource {
  readonly id: SourceId
  /** `undefined` is a miss, a throw is a failure of the source. */
  file(
    name: string,
    options: CallOptions & { maxBytes: number },
  ): Promise<{ readonly bytes: Uint8Array } | undefined>
}

interface PassedFileRules {
  readonly maxBytes: number
  /** Of all upstreams together. */
  readonly deadlineMs: number
  /** Throws for what is not to be passed on: the next upstream is asked then. */
  readonly check?: (text: string) => void
}

export interface PassedFiles {
  /** From the first upstream that has it in good order; they are asked one after the other, as Nix asks caches. */
  get(name: string, rules: PassedFileRules, options: CallOptions): Promise<Uint8Array | undefined>
}

const UTF8 = new TextDecoder('utf-8', { fatal: true })

export function createPassedFiles(sources: readonly FileSource[], deps: { log: Log }): PassedFiles {
  const { log } = deps

  async function ask(
    source: FileSource,
    name: string,
    { maxBytes, check }: PassedFileRules,
    options: CallOptions,
  ): Promise<Uint8Array | undefined> {
    try {
      const found = await source.file(name, { ...options, maxBytes })
      if (found === undefined || found.bytes.byteLength > maxBytes) return undefined
      check?.(UTF8.decode(found.bytes))
      return found.bytes
    } catch (error) {
      if (options.signal.aborted) return undefined
      log.debug({ source: source.id, file: name, err: error }, `file not passed on: ${messageOf(error)}`)
      return undefined
    }
  }

  return {
    async get(name, rules, { signal }) {
      const deadline = AbortSignal.any([signal, AbortSignal.timeout(rules.deadlineMs)])
      for (const source of sources) {
        if (deadline.aborted) return undefined
        // One that does not hear its signal keeps nobody waiting.
        const answer = abortable(ask(source, name, rules, { signal: deadline }), deadline)
        const bytes = await answer.catch(() => undefined)
        if (bytes !== undefined) return bytes
      }
      return undefined
    },
  }
}
