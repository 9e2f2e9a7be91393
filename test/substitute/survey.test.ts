import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { hashPartOf } from '../../src/nix/store-path.ts'
import { COST, SourceFaultError, SourceRestingError } from '../../src/source.ts'
import type { NarInfoSource } from '../../src/source.ts'
import { createSurvey } from '../../src/substitute/survey.ts'
import { noise, options, planOf } from '../spool/kit.ts'
import { narInfoOf, silence, tells, testPolicy } from './kit.ts'

const info = narInfoOf(planOf(noise(100)))
const hashPart = hashPartOf(info.storePath)

function fails(id: string, error: Error): NarInfoSource {
  return { id, cost: COST.upstream, lookup: () => Promise.reject(error) }
}

function survey(parts: {
  remembered?: typeof info
  sources?: readonly NarInfoSource[]
  neighbours?: Parameters<typeof createSurvey>[0]['neighbours']
}) {
  const { remembered, sources = [], neighbours = () => [] } = parts
  return createSurvey({ policy: testPolicy, table: { byHashPart: () => remembered }, sources, neighbours })
}

async function outcomes(...parts: Parameters<typeof survey>): Promise<[string, string][]> {
  return (await survey(...parts)(hashPart, options)).map(({ source, outcome }) => [source, outcome])
}

describe('a survey', () => {
  it('has what everybody says, in the order in which they would be believed', async () => {
    const none: NarInfoSource = { id: 'store', cost: COST.local, lookup: async () => undefined }
    const sources = [
      none,
      tells('upstream:good', COST.upstream, { info }),
      tells('upstream:unsigned', COST.upstream, { info: { ...info, signatures: [] } }),
      tells('upstream:forged', COST.upstream, { info: { ...info, narSize: 1 } }),
      fails('upstream:down', new SourceFaultError('upstream:down', 'ECONNREFUSED')),
      fails('upstream:resting', new SourceRestingError('upstream:resting', 'failed before')),
    ]
    assert.deepEqual(await outcomes({ remembered: info, sources }), [
      ['table', 'told'],
      ['store', 'miss'],
      ['upstream:good', 'told'],
      ['upstream:unsigned', 'refused'],
      ['upstream:forged', 'refused'],
      ['upstream:down', 'failed'],
      ['upstream:resting', 'resting'],
    ])
  })

  it('does not believe what went out before by a key that is not trusted any more', async () => {
    const remembered = { ...info, signatures: [] }
    assert.deepEqual(await outcomes({ remembered }), [['table', 'refused']])
  })

  it('asks neighbours only as a substitution would: by what is known of the path', async () => {
    const asked: unknown[] = []
    const neighbours = (known?: { storePath: string }): NarInfoSource[] => {
      asked.push(known?.storePath)
      return known === undefined ? [] : [tells('neighbour:a', COST.neighbour, { info })]
    }
    const upstream = tells('upstream:good', COST.upstream, { info })
    assert.deepEqual(await outcomes({ sources: [upstream], neighbours }), [
      ['upstream:good', 'told'],
      ['neighbour:a', 'told'],
    ])
    assert.deepEqual(await outcomes({ neighbours }), [])
    assert.deepEqual(asked, [info.storePath, undefined])
  })

  it('ends with who asks', async () => {
    const leaving = new AbortController()
    const silent: NarInfoSource = {
      id: 'upstream:silent',
      cost: COST.upstream,
      lookup: (_, { signal }) => {
        leaving.abort(new Error('gone'))
        return silence(signal)
      },
    }
    await assert.rejects(survey({ sources: [silent] })(hashPart, { signal: leaving.signal }), /gone/)
  })
})
