/** `/relay/<hash part>?older=<hash part>`: asks for a path to be fetched, so that its blocks can be told from older ones. */
import type { Hono } from 'hono'
import type { Log } from '../log.ts'
import { isHashPart } from '../nix/store-path.ts'
import type { Relay } from '../operations/relay.ts'
import type { CallOptions } from '../source.ts'
import type { VerifiedNarInfo } from '../substitute/policy.ts'
import { notFound, refusal } from './answer.ts'
import type { Answer } from './answer.ts'
import { requestSignal, respond } from './respond.ts'
import type { HttpEnv } from './respond.ts'

interface RelayDeps {
  readonly relay: Pick<Relay, 'ask'>
  readonly formatAnswer: (info: VerifiedNarInfo) => string
  readonly log: Log
}

export function addRelayRoute(app: Hono<HttpEnv>, deps: RelayDeps): void {
  app.get('/relay/:hash', async (c) => {
    const signal = requestSignal(c)
    const answer = await relayAnswer(c.req.param('hash'), c.req.query('older'), deps, { signal })
    return respond(c, answer, { signal, log: deps.log })
  })
}

async function relayAnswer(
  wanted: string,
  older: string | undefined,
  { relay, formatAnswer }: RelayDeps,
  options: CallOptions,
): Promise<Answer> {
  if (!isHashPart(wanted) || older === undefined || !isHashPart(older)) return notFound()
  const found = await relay.ask(wanted, older, options)
  if (found === 'no') return notFound()
  if (found === 'later') return refusal(202, 'not yet, ask again', { 'Retry-After': '1' })
  return {
    status: 200,
    headers: { 'Content-Type': 'text/x-nix-narinfo', 'Cache-Control': 'no-store' },
    body: formatAnswer(found),
  }
}
