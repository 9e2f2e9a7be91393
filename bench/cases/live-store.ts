/**
 * NARs of a live Nix store from the peer listener, against `nix-store --dump | cat` and against harmonia. 'first time': of a
 * path that nobody asked this narswarm for before, hashed on its way out. 'warm': its leaves were hashed before, and its files
 * are as they were (docs/adr/012). The client is curl, which does not hash.
 */
import { join } from 'node:path'
import type { BenchContext } from '../kit/context.ts'
import { run } from '../kit/child.ts'
import type { JobResult } from '../kit/download.ts'
import { startHarmonia } from '../kit/harmonia.ts'
import type { Harmonia } from '../kit/harmonia.ts'
import { inTurn, rate } from '../kit/in-turn.ts'
import { makeLiveStore } from '../kit/live-store.ts'
import type { LivePath, LiveStore } from '../kit/live-store.ts'
import { startNarswarm } from '../kit/narswarm.ts'
import { call, haveAll } from '../kit/program.ts'
import { median, note, report } from '../kit/report.ts'

const FILE_BYTES = 200_000_000
const SMALL_COUNT = 100
const FIRST_ROUNDS = 5
/** What harmonia gives of one file differs by more from run to run. */
const LEVEL_RATIO = 0.95
/** Of harmonia's rate. */
const AHEAD_RATIO = 1.05

interface Rates {
  readonly first: number[]
  /** nix-store meanwhile. */
  readonly dumpAtFirst: number[]
  /** Ours, then that of the other one. */
  warm: number[]
  againstHarmonia: number[]
}

export async function benchLiveStore({ dir }: BenchContext): Promise<boolean> {
  if (!haveAll('live-store', 'nix-store', 'nix', 'curl', 'bash')) return true
  const store = await makeLiveStore(join(dir, 'nix'), { fileBytes: FILE_BYTES, small: SMALL_COUNT })
  const program = process.env['HARMONIA'] ?? ''
  if (program === '')
    note('bench live-store: no comparison with harmonia, HARMONIA does not name its program')
  const harmonia =
    program === '' ? undefined : await startHarmonia(program, join(dir, 'harmonia'), store.root)
  let passed = true
  try {
    const file = { what: 'one file of 200 MB', path: store.file, ofHarmonia: LEVEL_RATIO }
    const tree = { what: '5,000 small files', path: store.tree, ofHarmonia: AHEAD_RATIO }
    passed = (await benchPath(file, store, harmonia, join(dir, 'file'))) && passed
    passed = (await benchPath(tree, store, harmonia, join(dir, 'tree'))) && passed
    passed = (await benchFirstByte(store, harmonia, join(dir, 'small'))) && passed
  } finally {
    await harmonia?.stop()
  }
  return passed
}

async function benchPath(
  { what, path, ofHarmonia }: { what: string; path: LivePath; ofHarmonia: number },
  store: LiveStore,
  harmonia: Harmonia | undefined,
  dir: string,
): Promise<boolean> {
  const rates: Rates = { first: [], dumpAtFirst: [], warm: [], againstHarmonia: [] }
  const theirs = harmonia && (await narUrl(harmonia.url, path))
  for (let round = 0; round < FIRST_ROUNDS; round++) {
    const node = await startSharing(join(dir, String(round)), store)
    try {
      const url = await narUrl(node.peer, path)
      const dumped = await dump(path)
      const first = await rate(url)
      note(`  ${what}, first time: ${first.toFixed(0)}, nix-store ${dumped.toFixed(0)} MB/s`)
      rates.first.push(first)
      rates.dumpAtFirst.push(dumped)
      if (round < FIRST_ROUNDS - 1) continue
      rates.warm = await inTurn(`${what}, warm`, { narswarm: () => rate(url), 'nix-store': () => dump(path) })
      // By itself: each program pays for the caches that a third one between the two has emptied.
      if (theirs !== undefined) {
        rates.againstHarmonia = await inTurn(`${what}, warm`, {
          narswarm: () => rate(url),
          harmonia: () => rate(theirs),
        })
      }
    } finally {
      await node.stop()
    }
  }
  const nix = { unit: 'MB/s', peer: 'nix-store --dump | cat' } as const
  report({
    ...nix,
    bench: `live store, ${what}, first time`,
    ours: median(rates.first),
    theirs: median(rates.dumpAtFirst),
    bar: 'none',
  })
  const bench = `live store, ${what}, warm`
  const [ours = 0, theirNix = 0] = rates.warm
  const [ourOther, theirOther = 0] = rates.againstHarmonia
  const beside =
    ourOther === undefined ||
    report({
      bench,
      unit: 'MB/s',
      ours: ourOther,
      peer: 'harmonia',
      theirs: theirOther,
      bar: { atLeastRatio: ofHarmonia },
    })
  return report({ ...nix, bench, ours, theirs: theirNix, bar: { atLeastRatio: 0.8 } }) && beside
}

/** Small NARs that nobody asked for before, each right after its narinfo, over a connection of its own. */
async function benchFirstByte(
  store: LiveStore,
  harmonia: Harmonia | undefined,
  dir: string,
): Promise<boolean> {
  const firstBytes = async (base: string): Promise<number> => {
    const urls: string[] = []
    for (const path of store.small) urls.push(await narUrl(base, path))
    const { downloads } = await run<JobResult>('client', { urls, parallel: 1, hash: true })
    return median(downloads.map(({ firstByteMs }) => firstByteMs))
  }
  const node = await startSharing(dir, store)
  try {
    const bench = 'live store, first byte of a small NAR, p50'
    const ours = await firstBytes(node.peer)
    if (harmonia !== undefined) {
      const theirs = await firstBytes(harmonia.url)
      report({ bench, unit: 'ms', ours, peer: 'harmonia', theirs, bar: 'none' })
    }
    return report({ bench, unit: 'ms', ours, bar: { below: 5 } })
  } finally {
    await node.stop()
  }
}

/** Nothing is indexed but what is asked for. */
async function startSharing(dir: string, store: LiveStore): Promise<{ peer: string; stop(): Promise<void> }> {
  const node = await startNarswarm(dir, {
    profile: 'lan',
    store_root: store.root,
    peer: { listen: '127.0.0.1:0' },
    swarm: { listen: ['/ip4/127.0.0.1/tcp/0'] },
    trust: { keys: [store.publicKey] },
    share: { keys: [store.publicKey], index_rate: '0' },
  })
  const { peer } = await node.status()
  if (peer === undefined) throw new Error('narswarm has no peer listener')
  return { peer: peer.url, stop: () => node.stop() }
}

/** Nobody is given a NAR before its narinfo. */
async function narUrl(base: string, { hashPart }: LivePath): Promise<string> {
  const { stdout } = await call('curl', ['-sf', `${base}/${hashPart}.narinfo`])
  const [, url] = /^URL: (.+)$/m.exec(stdout) ?? []
  if (url === undefined) throw new Error(`${base}: no narinfo of ${hashPart}`)
  return `${base}/${url}`
}

/** MB/s of `nix-store --dump | cat`, from start to end. */
async function dump({ physical, narSize }: LivePath): Promise<number> {
  const script = 'set -o pipefail; nix-store --dump "$0" | cat >/dev/null'
  const { ms } = await call('bash', ['-c', script, physical])
  return narSize / ms / 1000
}
