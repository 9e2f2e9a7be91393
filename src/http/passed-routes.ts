/**
 * What caches have beside narinfos and NARs (nix-protocol A10), on the cache listener alone. Only GET and HEAD come here;
 * no query, no escape and no name outside its grammar goes on to an upstream.
 */
import type { Context, Hono } from 'hono'
import {
  DEBUG_INFO_MAX_BYTES,
  LOG_MAX_BYTES,
  PASSED_FILE_DEADLINE_MS,
  REALISATION_MAX_BYTES,
  RESOLVE_DEADLINE_MS,
} from '../limits.ts'
import type { Log } from '../log.ts'
import { formatDebugInfo, parseDebugInfo } from '../nix/debug-info.ts'
import { checkBuildTrace, checkRealisation } from '../nix/realisation.ts'
import { isStorePathBaseName } from '../nix/store-path.ts'
import { notFound, passedOn } from './answer.ts'
import type { Answer } from './answer.ts'
import type { PassedFiles } from './passed-files.ts'
import type { Resolver } from '../substitute/resolve.ts'
import { requestSignal, respond } from './respond.ts'
import type { HttpEnv } from './respond.ts'

const DRV = /\.drv$/
/** An output is named as a store path is: it becomes a part of one. */
const REALISATION = /^sha256:[0-9a-f]{64}![0-9A-Za-z+._?=-]{1,211}(?=\.doi$)/
const OUTPUT = /^[0-9A-Za-z+_?=-][0-9A-Za-z+._?=-]{0,210}\.doi$/
/** SHA-1, as linkers write it and Nix looks for it (libstore/binary-cache-store.cc). */
const DEBUG_INFO = /^([0-9a-f]{40})(?:\.debug)?$/

export function addPassedRoutes(
  app: Hono<HttpEnv>,
  deps: { files: PassedFiles; resolver: Pick<Resolver, 'byNarHash'>; log: Log },
): void {
  const { files, resolver, log } = deps

  const route = (
    path: string,
    answer: (
      file: string,
      options: { signal: AbortSignal },
      c: Context<HttpEnv>,
    ) => Promise<Answer | undefined>,
  ): void => {
    app.get(path, async (c) => {
      const signal = requestSignal(c)
      const found = await answer(c.req.param('file') ?? '', { signal }, c)
      return respond(c, found ?? notFound(), { signal, log })
    })
  }

  route('/log/:file', async (file, options) => {
    if (!DRV.test(file) || !isStorePathBaseName(file)) return undefined
    const rules = { maxBytes: LOG_MAX_BYTES, deadlineMs: PASSED_FILE_DEADLINE_MS }
    const bytes = await files.get(`log/${file}`, rules, options)
    return bytes && passedOn('text/plain; charset=utf-8', bytes)
  })

  /** A build waits for it. */
  const realisation = { maxBytes: REALISATION_MAX_BYTES, deadlineMs: RESOLVE_DEADLINE_MS }

  route('/realisations/:file', async (file, options) => {
    const [id] = REALISATION.exec(file) ?? []
    if (id === undefined) return undefined
    const rules = { ...realisation, check: (text: string) => checkRealisation(text, id) }
    const bytes = await files.get(`realisations/${file}`, rules, options)
    return bytes && passedOn('application/json', bytes)
  })

  route('/build-trace-v2/:drv/:file', async (file, options, c) => {
    const drv = c.req.param('drv') ?? ''
    if (!DRV.test(drv) || !isStorePathBaseName(drv) || !OUTPUT.test(file)) return undefined
    const rules = { ...realisation, check: checkBuildTrace }
    const bytes = await files.get(`build-trace-v2/${drv}/${file}`, rules, options)
    return bytes && passedOn('application/json', bytes)
  })

  route('/debuginfo/:file', async (file, options) => {
    const [, buildId] = DEBUG_INFO.exec(file) ?? []
    if (buildId === undefined) return undefined
    const check = (text: string) => void parseDebugInfo(text, buildId)
    const rules = { maxBytes: DEBUG_INFO_MAX_BYTES, deadlineMs: PASSED_FILE_DEADLINE_MS, check }
    const told = await files.get(`debuginfo/${file}`, rules, options)
    if (told === undefined) return undefined
    const narHash = parseDebugInfo(Buffer.from(told).toString(), buildId)
    if ((await resolver.byNarHash(narHash, options)) === undefined) return undefined
    return passedOn('application/json', formatDebugInfo(narHash, buildId))
  })
}
