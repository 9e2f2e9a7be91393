import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createTurns } from '../../src/swarm/turns.ts'

function filled() {
  const turns = createTurns<string>()
  for (const item of ['a1', 'a2', 'a3', 'b1', 'c1', 'c2']) turns.push(item.charAt(0), item)
  return turns
}

test('everybody has a turn, each in its own order', () => {
  const turns = filled()
  assert.deepEqual(
    Array.from({ length: 7 }, () => turns.shift()),
    ['a1', 'b1', 'c1', 'a2', 'c2', 'a3', undefined],
  )
})

test('who may not keeps its place', () => {
  const turns = filled()
  assert.equal(
    turns.shift((who) => who !== 'a'),
    'b1',
  )
  assert.equal(turns.shift(), 'a1')
  assert.equal(
    turns.shift(() => false),
    undefined,
  )
  assert.equal(turns.shift(), 'c1')
})

test('what is taken out is not given any more, and is taken out once', () => {
  const turns = filled()
  assert.deepEqual(
    [turns.remove('b', 'b1'), turns.remove('b', 'b1'), turns.remove('a', 'a2'), turns.remove('d', 'x')],
    [true, false, true, false],
  )
  assert.deepEqual(
    Array.from({ length: 5 }, () => turns.shift()),
    ['a1', 'c1', 'a3', 'c2', undefined],
  )
})
