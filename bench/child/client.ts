/** The client of every bench, in a process of its own. */
import { runJob } from '../kit/download.ts'
import type { Job } from '../kit/download.ts'

const job = JSON.parse(process.argv[2] ?? '{}') as Job
process.stdout.write(`${JSON.stringify(await runJob(job))}\n`)
