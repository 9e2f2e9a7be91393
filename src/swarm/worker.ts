/**
 * The swarm node's thread: Helia, libp2p and bitswap burn a core at 100 MB/s, which the HTTP listeners cannot spare.
 *
 * The one module here that does something when it is loaded, because that is how a worker starts; in the main thread
 * it does nothing.
 */
import type { MessagePort } from 'node:worker_threads'
import { isMainThread, parentPort, workerData } from 'node:worker_threads'
import { decodeCid } from '../dag/cid.ts'
import { messageOf } from '../log.ts'
import type { Log } from '../log.ts'
import { startHelia } from './helia.ts'
import { openSharedBlocks } from './shared-blocks.ts'
import { createSharedLine, createUpload } from './upload.ts'
import { WantError } from './wants.ts'
import type { FromWorker, ToWorker, WorkerConfig } from './worker-protocol.ts'

if (!isMainThread && parentPort !== null) void run(parentPort, workerData as WorkerConfig)

/** An error here is not caught: it ends the thread, and `node.ts` starts another. */
async function run(port: MessagePort, config: WorkerConfig): Promise<void> {
  const post = (message: FromWorker, transfer: ArrayBuffer[] = []): void => {
    port.postMessage(message, transfer)
  }
  const log = postedLog(post)
  const shared = await openSharedBlocks(config.serve, log)
  const node = await startHelia(config, {
    blocks: shared.blocks,
    upload: createUpload(config.line ?? createSharedLine(undefined)),
    onNeighbour: (peerId, url) => post({ type: 'neighbour', peerId, url }),
    log,
  })
  const underWay = new Map<number, AbortController>()

  const fetchBlock = async ({
    id,
    peer,
    cid,
    maxBytes,
  }: Extract<ToWorker, { type: 'fetch' }>): Promise<void> => {
    const controller = new AbortController()
    underWay.set(id, controller)
    try {
      const block = await node.wants.ask(peer, decodeCid(cid), maxBytes, { signal: controller.signal })
      const bytes = transferable(block)
      post({ type: 'block', id, bytes }, [bytes.buffer])
    } catch (error) {
      if (controller.signal.aborted) return
      const kind = error instanceof WantError ? error.kind : 'fault'
      post({ type: 'failure', id, kind, message: messageOf(error) })
    } finally {
      underWay.delete(id)
    }
  }

  port.on('message', (message: ToWorker) => {
    switch (message.type) {
      case 'fetch':
        void fetchBlock(message)
        return
      case 'cancel':
        underWay.get(message.id)?.abort()
        return
      case 'discover':
        node.discovery.start(message.config)
        return
      case 'name':
        node.discovery.name(message.addrs)
        return
      case 'stop':
        void node.stop().finally(() => {
          shared.close()
          // Ends this thread alone; timers that libp2p leaves behind would keep it for a second.
          process.exit(0)
        })
        return
      default:
        message satisfies never
    }
  })
  post({ type: 'ready', peerId: node.peerId, addrs: node.addrs() })
}

/**
 * The block in a buffer that can change threads. A block of some size is a view into the message it came in, whose
 * buffer was made for that message; when nothing else of weight is in it, it goes as it is. A small block may share its
 * buffer with the socket's next message, and is copied.
 */
function transferable(block: Uint8Array): Uint8Array<ArrayBuffer> {
  const { buffer, byteLength } = block
  if (
    buffer instanceof ArrayBuffer &&
    byteLength >= ALONE_BYTES &&
    buffer.byteLength - byteLength <= HEAD_BYTES
  ) {
    return block as Uint8Array<ArrayBuffer>
  }
  return new Uint8Array(block)
}
/** No read of a socket and no frame of yamux is as large, so such a buffer was joined from several for one message. */
const ALONE_BYTES = 256 * 1024
const HEAD_BYTES = 256

function postedLog(post: (message: FromWorker) => void): Log {
  const at = (level: keyof Log) => (fields: object, message: string) => {
    post({ type: 'log', level, fields, message })
  }
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }
}
