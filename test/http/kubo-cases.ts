/** `vectors/kubo/gateway.txt` as a table: what was asked of a real Kubo, and what it answered. */
export interface KuboCase {
  /** The line of the file, as the test's title. */
  readonly title: string
  readonly method: string
  readonly target: string
  readonly requestHeaders: Readonly<Record<string, string>>
  readonly status: number
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>
  /** Of the body; undefined when there is none. */
  readonly body: { readonly size: number; readonly sha256: string } | undefined
}

export function parseKuboCases(text: string): KuboCase[] {
  return text
    .split('\n> ')
    .slice(1)
    .map((block) => {
      const [title = '', statusLine = '', ...lines] = block.trimEnd().split('\n')
      const headers: Record<string, string> = {}
      let body: KuboCase['body']
      for (const line of lines) {
        const found = /^ {2}body: ([0-9]+) bytes, sha256 ([0-9a-f]{64})$/.exec(line)
        if (found !== null) body = { size: Number(found[1]), sha256: found[2] ?? '' }
        const [, name, value = ''] = /^ {2}([A-Z][A-Za-z-]*): (.*)$/.exec(line) ?? []
        if (name !== undefined) headers[name.toLowerCase()] = value
      }
      const status = Number(/^ {2}HTTP\/1\.1 ([0-9]{3}) /.exec(statusLine)?.[1])
      return { ...parseCurl(title), title, status, headers, body }
    })
}

/** `-I`, `-X method`, `-d data`, any number of `-H name: value`, then the target. */
function parseCurl(line: string): Pick<KuboCase, 'method' | 'target' | 'requestHeaders'> {
  const [, options = '', target = ''] = /^(.*?)(\/ipfs\/\S*)$/.exec(line) ?? []
  const requestHeaders: Record<string, string> = {}
  for (const [, name = '', value = ''] of options.matchAll(/-H ([A-Za-z-]+): (.*?) (?=-|$)/g)) {
    requestHeaders[name] = value
  }
  const [, method = options.includes('-I') ? 'HEAD' : 'GET'] = /-X ([A-Z]+)/.exec(options) ?? []
  return { method, target, requestHeaders }
}
