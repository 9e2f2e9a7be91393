import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { exactly } from '../../src/http/body.ts'
import { BodyLengthError } from '../../src/http/errors.ts'

async function take(chunks: AsyncIterable<Uint8Array>): Promise<{ bytes: Uint8Array; error: unknown }> {
  const parts: Uint8Array[] = []
  let error: unknown
  try {
    for await (const chunk of chunks) parts.push(chunk)
  } catch (thrown) {
    error = thrown
  }
  return { bytes: Buffer.concat(parts), error }
}

async function* give(chunks: readonly Uint8Array[]): AsyncGenerator<Uint8Array, void, undefined> {
  yield* chunks
}

test('a body of the promised length passes as it is, any other fails before its last byte', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.uint8Array({ maxLength: 8 })),
      fc.integer({ min: -9, max: 9 }),
      async (chunks, off) => {
        const source = Buffer.concat(chunks)
        const length = Math.max(0, source.length + off)
        const { bytes, error } = await take(exactly(give(chunks), length))
        if (length === source.length) {
          assert.equal(error, undefined)
          assert.deepEqual(Buffer.from(bytes), source)
        } else {
          assert.ok(error instanceof BodyLengthError)
          assert.ok(length === 0 || bytes.length < length, `${bytes.length} of ${length} bytes were let out`)
        }
      },
    ),
  )
})

test('what fails after its last byte has not given its last chunk', async () => {
  async function* source() {
    yield Buffer.from('first')
    yield Buffer.from('last')
    throw new Error('the NarHash is another')
  }
  const { bytes, error } = await take(exactly(source(), 9))
  assert.equal(String(bytes), 'first')
  assert.match(String(error), /another/)
})

test('a reader that stops early frees the source', async () => {
  let freed = false
  async function* source() {
    try {
      for (;;) yield Buffer.alloc(1)
    } finally {
      freed = true
    }
  }
  for await (const _ of exactly(source(), 10)) break
  assert.ok(freed)
})
