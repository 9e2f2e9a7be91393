/** wrk: one thread, 64 connections, paths in turn. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { call } from './program.ts'

const CONNECTIONS = 64

export interface WrkResult {
  readonly perSecond: number
  readonly p99Ms: number
  readonly maxMs: number
  readonly requests: number
  /** Answers with a status above 399. */
  readonly refused: number
  /** Connections that broke, or gave nothing in time. */
  readonly broken: number
}

/** @param paths asked for in turn, or a script with its own `request` */
export async function runWrk(
  dir: string,
  url: string,
  paths: readonly string[] | { readonly lua: string },
  seconds: number,
): Promise<WrkResult> {
  const script = join(dir, 'wrk.lua')
  await writeFile(script, 'lua' in paths ? `${paths.lua}\n${DONE}` : `${inTurn(paths)}\n${DONE}`)
  const args = ['-t1', `-c${CONNECTIONS}`, `-d${seconds}s`, '--timeout', '30s', '-s', script, url]
  const { stdout } = await call('wrk', args)
  const line = stdout.split('\n').find((one) => one.startsWith('{'))
  if (line === undefined) throw new Error(`wrk said nothing that we know: ${stdout.slice(-500)}`)
  return JSON.parse(line) as WrkResult
}

/** Requests are made once, so that wrk is not busier with them than with the one that it makes by itself. */
function inTurn(paths: readonly string[]): string {
  return `local requests, at = {}, 0
function init(args)
  for i, path in ipairs({ ${paths.map((path) => JSON.stringify(path)).join(', ')} }) do
    requests[i] = wrk.format("GET", path)
  end
end
function request()
  at = at % #requests + 1
  return requests[at]
end`
}

const DONE = `function done(summary, latency, requests)
  local e = summary.errors
  print(string.format(
    '{"perSecond":%.1f,"p99Ms":%.3f,"maxMs":%.3f,"requests":%d,"refused":%d,"broken":%d}',
    summary.requests / summary.duration * 1e6, latency:percentile(99) / 1000, latency.max / 1000,
    summary.requests, e.status, e.connect + e.read + e.write + e.timeout))
end`
