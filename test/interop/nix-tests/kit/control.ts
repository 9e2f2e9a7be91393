import { once } from 'node:events'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { createInterface } from 'node:readline'
import { messageOf } from '../../../../src/log.ts'
import type { Stage } from '../../../e2e/kit/stage.ts'
import type { Front } from './front.ts'

/** Where the scripts tell us what they did behind narswarm's back: one line for each call, `done` as the answer. */
export async function startControl(stage: Stage, fronts: readonly Front[]): Promise<number> {
  const obey = async (line: string): Promise<void> => {
    const [verb, ...rest] = line.split(' ')
    switch (verb) {
      case 'forget-all':
        for (const front of fronts) await front.forgetAll(rest.filter((key) => key !== ''))
        return
      case 'forget-nars':
        for (const front of fronts) await front.forgetNars()
        return
      case 'told': {
        const pattern = new RegExp(rest.join(' '))
        if (!fronts.some((front) => front.told(pattern)))
          throw new Error(`it told nothing like ${String(pattern)}`)
        return
      }
      default:
        throw new Error(`expected forget-all, forget-nars or told, got ${line}`)
    }
  }
  const server = createServer((socket) => {
    socket.on('error', () => socket.destroy())
    createInterface(socket).once('line', (line) => {
      obey(line).then(
        () => socket.end('done\n'),
        (error: unknown) => socket.end(`${messageOf(error).replaceAll('\n', ' ').slice(0, 2_000)}\n`),
      )
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  stage.onEnd(async () => {
    server.close()
    await once(server, 'close')
  })
  return (server.address() as AddressInfo).port
}
