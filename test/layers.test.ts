import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize, relative } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

/** ARCHITECTURE.md says it in words: a folder imports only from itself and from those before it. */
const LAYERS = [
  'nix',
  'dag',
  'state',
  'feed',
  'store',
  'spool',
  'upstream',
  'swarm',
  'substitute',
  'publish',
  'operations',
  'http',
  'cli',
  'wiring',
]
/** Importable from everywhere; they hold names and shapes, no behaviour of a layer. */
const ANYWHERE = ['config', 'limits.ts', 'source.ts', 'log.ts']
/** `source.ts` names the types of `nix/` in its shapes, `config/` parses keys and paths by it. */
const ANYWHERE_MAY_IMPORT = ['nix', ...ANYWHERE]

const SRC = fileURLToPath(new URL('../src/', import.meta.url))
const IMPORT = /^\s*(?:import|export)\b[^'"]*?from\s*['"]([^'"]+)['"]|import\(\s*['"]([^'"]+)['"]\s*\)/gm

interface Import {
  from: string
  to: string
}

function imports(): Import[] {
  return readdirSync(SRC, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .flatMap((file) => {
      const text = readFileSync(join(SRC, file), 'utf8')
      return [...text.matchAll(IMPORT)].map((match) => ({ from: file, to: match[1] ?? match[2] ?? '' }))
    })
}

/** First folder below src/, or the file itself. */
function layerOf(file: string): string {
  return file.split('/')[0] ?? file
}

const all = imports()
const internal = all
  .filter(({ to }) => to.startsWith('.'))
  .map(({ from, to }) => ({ from, to: relative(SRC, normalize(join(SRC, dirname(from), to))) }))

test('a layer imports only from the layers before it', () => {
  assert.ok(internal.length > 100, `expected the imports of a whole program, found ${internal.length}`)
  const wrong = internal.filter(({ from, to }) => {
    const [here, there] = [layerOf(from), layerOf(to)]
    if (here === there || here === 'main.ts') return false
    if (ANYWHERE.includes(here)) return !ANYWHERE_MAY_IMPORT.includes(there)
    if (ANYWHERE.includes(there)) return false
    assert.ok(
      LAYERS.includes(here),
      `${from}: folder ${here} is in no layer; add it to ARCHITECTURE.md and here`,
    )
    return !LAYERS.includes(there) || LAYERS.indexOf(there) > LAYERS.indexOf(here)
  })
  assert.deepEqual(wrong, [])
})

test('nix/ is pure: only noble and node:crypto from outside', () => {
  const outside = all.filter(({ from, to }) => layerOf(from) === 'nix' && !to.startsWith('.'))
  const wrong = outside.filter(({ to }) => !to.startsWith('@noble/') && to !== 'node:crypto')
  assert.deepEqual(wrong, [])
})

test('dag/ does no I/O', () => {
  const allowed = /^(?:multiformats|@ipld\/dag-pb|node:crypto$)/
  const outside = all.filter(({ from, to }) => layerOf(from) === 'dag' && !to.startsWith('.'))
  assert.deepEqual(
    outside.filter(({ to }) => !allowed.test(to)),
    [],
  )
})

test('Helia and libp2p stay inside swarm/', () => {
  const wrong = all.filter(
    ({ from, to }) =>
      layerOf(from) !== 'swarm' &&
      /^(?:helia|libp2p|@helia\/|@libp2p\/|interface-blockstore|@multiformats\/)/.test(to),
  )
  assert.deepEqual(wrong, [])
})

test('no file is longer than 600 lines, but for the list of all limits', () => {
  const long = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts') && file !== 'limits.ts')
    .map((file) => ({ file, lines: readFileSync(join(SRC, file), 'utf8').split('\n').length }))
    .filter(({ lines }) => lines > 600)
  assert.deepEqual(long, [])
})
