import assert from 'node:assert/strict'
import { it } from 'node:test'
import { createLeafShares } from '../../src/substitute/leaf-shares.ts'

it('leaves are shared by all who fetch some, one each at least', () => {
  const shares = createLeafShares({ total: 12, each: 8 })
  const first = shares.join()
  assert.equal(first.count(), 8)
  const others = Array.from({ length: 3 }, () => shares.join())
  assert.equal(first.count(), 3)
  const many = Array.from({ length: 20 }, () => shares.join())
  assert.equal(first.count(), 1)
  for (const one of [...many, ...others]) {
    one.leave()
    one.leave()
  }
  assert.equal(first.count(), 8)
})
