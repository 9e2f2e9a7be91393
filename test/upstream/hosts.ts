import { createHosts, type Hosts } from '../../src/upstream/host.ts'
import { recordingLog } from '../kit/log.ts'

/** Hosts that nothing is known of yet, on a clock that the test may set forward. */
export function freshHosts(): {
  hosts: Hosts
  log: ReturnType<typeof recordingLog>
  pass: (ms: number) => void
} {
  const log = recordingLog()
  let ahead = 0
  const hosts = createHosts({ log, clock: () => performance.now() + ahead, random: () => 0.5 })
  return { hosts, log, pass: (ms) => void (ahead += ms) }
}
