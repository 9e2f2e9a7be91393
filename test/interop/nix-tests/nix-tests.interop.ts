import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { describe, test } from 'node:test'
import { openStage } from '../../e2e/kit/stage.ts'
import { debianSource, SourceUnavailableError, VERSION } from './kit/source.ts'
import { runNixTest } from './kit/suite.ts'
import { NIX_TESTS } from './tests.ts'

describe(`Nix ${VERSION}'s own tests pass when all they read comes through narswarm`, () => {
  let preparation: ReturnType<typeof prepare> | undefined
  for (const nixTest of NIX_TESTS) {
    test(`${nixTest.name}.sh`, async (t) => {
      const prepared = await (preparation ??= prepare())
      if ('missing' in prepared) return t.skip(prepared.missing)

      const { ok, bytes } = await runNixTest(await openStage(t), prepared.tarball, nixTest)
      assert.ok(ok, 'it failed: its output is above')
      assert.ok(bytes > 0, 'expected NARs to come through narswarm, none did')
      const changed = nixTest.patches.filter(({ expectation }) => expectation !== undefined).length
      t.diagnostic(`${bytes} bytes of NARs through narswarm; ${changed} expectations changed`)
    })
  }
})

async function prepare(): Promise<{ tarball: string } | { missing: string }> {
  const missing = ['nix', 'curl', 'jq', 'xz'].filter((tool) => versionOf(tool) === undefined)
  if (missing.length > 0) return { missing: `not on PATH: ${missing.join(', ')}` }
  const version = versionOf('nix') ?? ''
  if (!version.endsWith(` ${VERSION}`)) {
    return { missing: `these tests are of Nix ${VERSION}, the client here is ${version}` }
  }
  try {
    return { tarball: await debianSource() }
  } catch (error) {
    if (error instanceof SourceUnavailableError) return { missing: error.message }
    throw error
  }
}

function versionOf(tool: string): string | undefined {
  const { status, stdout } = spawnSync(tool, ['--version'], { encoding: 'utf8' })
  return status === 0 ? stdout.trim() : undefined
}
