import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { networkInterfaces } from 'node:os'
import { buffer, text } from 'node:stream/consumers'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { openStage } from '../e2e/kit/stage.ts'
import { openLan } from './kit/lan.ts'
import { call } from './kit/namespace.ts'
import { skipWithoutLan } from './kit/skip.ts'

const GROUPS = [
  { type: 'udp4', group: '224.0.0.251', any: '0.0.0.0' },
  { type: 'udp6', group: 'ff02::fb%eth0', any: '::%eth0' },
] as const
const BODY = Buffer.alloc(6_250_000, 7)

test('the LAN of these tests is one', { skip: skipWithoutLan() }, async (t) => {
  const stage = await openStage(t)
  const before = Object.keys(networkInterfaces())
  const lan = await openLan(stage)
  const [a, b] = [await lan.addHost('a'), await lan.addHost('b')]
  const server = createServer((_, response) => response.end(BODY))
  const port = Number(new URL(await a.listen(server, '::')).port)

  for (const host of [a.address, `[${a.address6}]`]) {
    await t.test(`a host reaches another by ${host}`, async () => {
      assert.deepEqual(await buffer(await b.get(`http://${host}:${port}/`)), BODY)
    })
  }

  for (const { type, group, any } of GROUPS) {
    await t.test(`multicast to ${group} reaches the others`, async () => {
      const hear = `const socket = require('dgram').createSocket({ type: '${type}', reuseAddr: true })
        socket.on('message', (message) => { process.stdout.write(message); process.exit() })
        socket.bind(5353, () => socket.addMembership('${group.split('%')[0]}', '${any}'))`
      const tell = `const socket = require('dgram').createSocket('${type}')
        setInterval(() => socket.send('hello', 5353, '${group}'), 50)`
      const [hearing, telling] = [
        spawn(...b.place(process.execPath, ['-e', hear]), { signal: stage.signal }),
        spawn(...a.place(process.execPath, ['-e', tell])),
      ]
      assert.equal(await text(hearing.stdout), 'hello')
      telling.kill()
      await once(telling, 'exit')
    })
  }

  await t.test('nothing of it is on the network of this machine', () => {
    assert.deepEqual(Object.keys(networkInterfaces()), before)
  })

  await t.test('a cable of 100 Mbit/s carries that', async (t) => {
    await a.limit({ up: 100 })
    const begun = performance.now()
    await buffer(await b.get(`http://${a.address}:${port}/`))
    const mbit = (BODY.length * 8) / (performance.now() - begun) / 1000
    t.diagnostic(`${mbit.toFixed(1)} Mbit/s`)
    assert.ok(mbit > 80 && mbit < 100, `${mbit} Mbit/s`)
  })

  await t.test('a cable that is out carries nothing, and all again when it is in', async () => {
    await a.unplug()
    const gone = b.get(`http://${a.address}:${port}/`)
    const outcome = await Promise.race([gone.then(() => 'answered'), sleep(500, 'silence')])
    assert.equal(outcome, 'silence')
    await a.plug()
    assert.deepEqual(await buffer(await gone), BODY)
  })

  await t.test('what a killed run left is removed by the next one', async () => {
    const left = 'narswarm-lan-4194305-1-left'
    await call('ip', ['netns', 'add', left])
    const sleeping = spawn('nsenter', [`--net=/run/netns/${left}`, 'sleep', '1000'])
    const exited = once(sleeping, 'exit')
    await openLan(stage)
    await exited
    assert.ok(!(await call('ip', ['netns', 'list'])).includes(left))
  })
})
