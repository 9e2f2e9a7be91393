import { Worker } from 'node:worker_threads'
import type { CID } from 'multiformats/cid'
import {
  BITSWAP_BLOCK_DEADLINE_MS,
  BITSWAP_MESSAGE_DEADLINE_MS,
  SWARM_HEAP_MB,
  SWARM_RESTART_CEILING_MS,
  SWARM_RESTART_FLOOR_MS,
  SWARM_START_DEADLINE_MS,
  SWARM_STOP_DEADLINE_MS,
  SWARM_YOUNG_HEAP_MB,
} from '../limits.ts'
import { messageOf } from '../log.ts'
import type { Log } from '../log.ts'
import type { BlockSource, SourceId } from '../source.ts'
import { COST, SourceFaultError, SourceLieError, SourceMissError } from '../source.ts'
import { peerIdIn } from './peer-address.ts'
import type { DiscoverConfig, FailureKind, FromWorker, ToWorker, WorkerConfig } from './worker-protocol.ts'

export type SwarmConfig = WorkerConfig

/** The node could not be started: address in use, no permission, a damaged key file. */
export class SwarmStartError extends Error {
  override readonly name = 'SwarmStartError'
}

export interface SwarmNode {
  readonly peerId: string
  /** Where others reach it: multiaddrs with `/p2p/<peer id>`; none when it only dials. */
  addrs(): readonly string[]
  /**
   * One peer as a source. Dials on first use and again after a failure; the bytes match the CID's digest (Helia has
   * hashed them), the caller checks them all the same.
   *
   * @throws RangeError when the address does not end in `/p2p/<peer id>`
   */
  bitswapSource(address: string): BlockSource
  /**
   * Looks for neighbours from now on, and says where we are; once.
   *
   * @param onNeighbour told of each that was met, again each time
   */
  discover(config: DiscoverConfig, onNeighbour: (peer: { peerId: string; url: URL }) => void): void
  /** Those to be greeted anyhow, in place of those that `discover` or the last call named. */
  name(addresses: readonly string[]): void
  stop(): Promise<void>
}

/**
 * Helia in a worker thread. When the thread dies, what was under way fails with SourceFaultError and another is started,
 * sooner or later according to how long it had lived.
 *
 * @throws SwarmStartError when the first start fails
 */
export async function startSwarmNode(config: SwarmConfig, deps: { log: Log }): Promise<SwarmNode> {
  const { log } = deps
  const pending = new Map<number, Pending>()
  /**
   * When a peer last gave a block. Over a slow link a window of leaves takes longer than the deadline of one, and those
   * at its end must not fail while the others arrive.
   */
  const heardFrom = new Map<SourceId, number>()
  let lastId = 0
  let thread: Thread | undefined
  let stopping = false
  let restart: NodeJS.Timeout | undefined
  /** Since a thread last lived for a while. */
  let crashes = 0
  /** Once it has been ready: from then on it is started again, before that the caller is told. */
  let running = false
  let ready: Ready | undefined
  /** For the next thread too. */
  let discovering: DiscoverConfig | undefined
  let onNeighbour: ((peer: { peerId: string; url: URL }) => void) | undefined

  const settle = (id: number): Pending | undefined => {
    const request = pending.get(id)
    pending.delete(id)
    return request
  }

  const onMessage = (message: FromWorker): void => {
    switch (message.type) {
      case 'ready':
        return
      case 'block':
        // Absent: given up meanwhile, by deadline or by the caller. A late block is dropped.
        settle(message.id)?.resolve(message.bytes)
        return
      case 'failure':
        settle(message.id)?.fail(message.kind, message.message)
        return
      case 'neighbour':
        onNeighbour?.({ peerId: message.peerId, url: new URL(message.url) })
        return
      case 'log':
        log[message.level](message.fields, message.message)
        return
      default:
        message satisfies never
    }
  }

  const onExit = (lived: number, reason: string): void => {
    thread = undefined
    for (const id of pending.keys()) settle(id)?.fail('fault', `the swarm thread ended: ${reason}`)
    if (stopping || !running) return
    const delay = Math.min(SWARM_RESTART_CEILING_MS, SWARM_RESTART_FLOOR_MS * 2 ** crashes)
    crashes = lived > SWARM_RESTART_CEILING_MS ? 0 : crashes + 1
    log.error(
      { reason, restartInMs: delay },
      'swarm: the thread with the IPFS node ended and will be started again',
    )
    restart = setTimeout(() => {
      launch().catch(() => {
        // It has ended, and onExit has told so and set the next date.
      })
    }, delay)
    restart.unref()
  }

  const launch = async (): Promise<void> => {
    const started = startThread(config, { onMessage, onExit })
    thread = started
    ready = await started.ready
    if (discovering !== undefined) started.post({ type: 'discover', config: discovering })
  }

  const fetchBlock = async (
    source: SourceId,
    address: string,
    cid: CID,
    maxBytes: number,
    signal: AbortSignal,
  ): Promise<Uint8Array> => {
    signal.throwIfAborted()
    const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>()
    const id = ++lastId
    const give = (message: ToWorker): void => thread?.post(message)
    const onBlock = (bytes: Uint8Array): void => {
      heardFrom.set(source, performance.now())
      resolve(bytes)
    }
    const request: Pending = {
      resolve: onBlock,
      fail: (kind, message) => reject(sourceError(kind, source, message)),
    }
    if (thread === undefined) throw new SourceFaultError(source, 'the swarm thread is being started again')
    pending.set(id, request)
    give({ type: 'fetch', id, peer: address, cid: cid.bytes, maxBytes })
    // Helia can miss an abort and then never settles [ipfs-stack 1.2]: this end keeps the time.
    const asked = performance.now()
    let timer: NodeJS.Timeout
    const watch = (): void => {
      const silence = performance.now() - Math.max(asked, heardFrom.get(source) ?? asked)
      const left = Math.min(
        BITSWAP_BLOCK_DEADLINE_MS - silence,
        BITSWAP_MESSAGE_DEADLINE_MS - (performance.now() - asked),
      )
      if (left > 0) timer = setTimeout(watch, Math.ceil(left))
      else request.fail('fault', `no block within ${Math.round(performance.now() - asked)} ms`)
    }
    timer = setTimeout(watch, BITSWAP_BLOCK_DEADLINE_MS)
    const onAbort = (): void => reject(signal.reason as Error)
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      return await promise
    } finally {
      clearTimeout(timer)
      signal.removeEventListener('abort', onAbort)
      // Still pending means that it was given up here, and the thread does not know.
      if (settle(id) !== undefined) give({ type: 'cancel', id })
    }
  }

  try {
    await launch()
    running = true
  } catch (cause) {
    throw new SwarmStartError(`the IPFS node could not be started: ${messageOf(cause)}`, { cause })
  }

  return {
    get peerId() {
      return ready?.peerId ?? ''
    },
    addrs: () => ready?.addrs ?? [],
    bitswapSource(address) {
      const id = `bitswap:${peerIdIn(address)}`
      return {
        id,
        cost: COST.swarm,
        fetch: ({ cid, maxBytes }, { signal }) => fetchBlock(id, address, cid, maxBytes, signal),
      }
    },
    discover(whom, told) {
      onNeighbour = told
      discovering = whom
      thread?.post({ type: 'discover', config: whom })
    },
    name(addresses) {
      if (discovering === undefined) return
      discovering = { ...discovering, named: addresses }
      thread?.post({ type: 'name', addrs: addresses })
    },
    async stop() {
      stopping = true
      clearTimeout(restart)
      await thread?.stop()
    },
  }
}

interface Pending {
  readonly resolve: (bytes: Uint8Array) => void
  readonly fail: (kind: FailureKind, message: string) => void
}

type Ready = Extract<FromWorker, { type: 'ready' }>

interface Thread {
  /** Rejects when the thread ends before it is ready, or is not ready within SWARM_START_DEADLINE_MS. */
  readonly ready: Promise<Ready>
  post(message: ToWorker): void
  stop(): Promise<void>
}

function startThread(
  config: WorkerConfig,
  on: { onMessage(message: FromWorker): void; onExit(lived: number, reason: string): void },
): Thread {
  const born = performance.now()
  const worker = new Worker(
    // Run from source in the repository, from dist/ once installed.
    new URL(import.meta.url.endsWith('.ts') ? './worker.ts' : './worker.js', import.meta.url),
    {
      workerData: config,
      name: 'swarm',
      resourceLimits: {
        maxOldGenerationSizeMb: SWARM_HEAP_MB,
        maxYoungGenerationSizeMb: SWARM_YOUNG_HEAP_MB,
      },
    },
  )
  const { promise: ready, resolve, reject } = Promise.withResolvers<Ready>()
  const { promise: exited, resolve: exit } = Promise.withResolvers<void>()
  let reason = 'it exited'
  const startTimer = setTimeout(() => {
    reason = `not ready within ${SWARM_START_DEADLINE_MS} ms`
    void worker.terminate()
  }, SWARM_START_DEADLINE_MS)
  worker.on('message', (message: FromWorker) => {
    if (message.type === 'ready') {
      clearTimeout(startTimer)
      resolve(message)
    }
    on.onMessage(message)
  })
  worker.on('error', (error) => {
    reason = messageOf(error)
    reject(error)
  })
  worker.on('exit', () => {
    clearTimeout(startTimer)
    reject(new Error(reason))
    exit()
    on.onExit(performance.now() - born, reason)
  })
  return {
    ready,
    post(message) {
      worker.postMessage(message, [])
    },
    async stop() {
      worker.postMessage({ type: 'stop' } satisfies ToWorker, [])
      const timer = setTimeout(() => void worker.terminate(), SWARM_STOP_DEADLINE_MS)
      await exited
      clearTimeout(timer)
    },
  }
}

function sourceError(kind: FailureKind, source: SourceId, message: string): Error {
  switch (kind) {
    case 'miss':
      return new SourceMissError(source, message)
    case 'fault':
      return new SourceFaultError(source, message)
    case 'lie':
      return new SourceLieError(source, message)
    default:
      return kind satisfies never
  }
}
