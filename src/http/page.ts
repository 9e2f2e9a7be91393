/** The page for people on `/`: what this is, how Nix is told of it, how it is. No script, nothing from elsewhere. */
import { hash } from 'node:crypto'
import { html, raw } from 'hono/html'
import type { Answer } from './answer.ts'

export interface PageData {
  /** `private`, `lan`, `pool` or `public`. */
  readonly profile: string
  /** Addresses of the binary caches that are asked. */
  readonly upstreams: readonly string[]
  /** `name:base64`: the public keys of which one must have signed whatever is served. */
  readonly trustedKeys: readonly string[]
  /** What a person may want to know at a glance, such as `['NARs in the spool', '12, 340 MB']`. */
  readonly facts: readonly (readonly [label: string, value: string])[]
}

const STYLE = `
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 46rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
pre { padding: .75rem 1rem; overflow-x: auto; border: 1px solid; border-radius: .3rem }
pre, code { font: .875rem/1.5 ui-monospace, monospace }
th { text-align: left; font-weight: normal; padding-right: 2rem; vertical-align: top }
`

/**
 * @param config.host as the browser sent it: the guard has let it through, and `html` escapes it all the same
 */
export async function pageAnswer(
  data: PageData,
  config: { host: string; version: string; storeDir: string; priority: number },
): Promise<Answer> {
  const { host, version, storeDir, priority } = config
  const url = `http://${host}`
  const body = await html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width" />
        <title>narswarm</title>
        ${raw(`<style>${STYLE}</style>`)}
      </head>
      <body>
        <h1>narswarm ${version}</h1>
        <p>
          A Nix binary cache on this machine that gets packages from whoever is near and trusts none of them:
          every path it serves carries a signature by a key you already trust, and every byte is checked.
        </p>
        <h2>Use it</h2>
        <p>In <code>nix.conf</code>:</p>
        <pre>
extra-substituters = ${url}
fallback = true</pre>
        <p>On NixOS:</p>
        <pre>
nix.settings.extra-substituters = [ "${url}" ];
nix.settings.fallback = true;</pre>
        <p>Once, by hand:</p>
        <pre>nix-store --realise PATH --option extra-substituters ${url}</pre>
        <p>
          There is no key to add. narswarm signs nothing that it serves, and a cache that asks you to trust
          its own key in its stead is not this one.
        </p>
        <h2>State</h2>
        <table>
          ${row('Profile', data.profile)} ${row('Store', storeDir)} ${row('Priority', String(priority))}
          ${data.upstreams.map((upstream) => row('Asks', upstream))}
          ${data.trustedKeys.map((key) => row('Trusts', key))}
          ${data.facts.map(([label, value]) => row(label, value))}
        </table>
        <h2>Look closer</h2>
        <p>
          <a href="/api/v1/status">status</a>, <a href="/healthz">alive</a>, <a href="/readyz">ready</a>,
          <a href="/version">version</a>, <a href="/metrics">metrics</a>,
          <a href="/nix-cache-info">nix-cache-info</a>
        </p>
      </body>
    </html>`
  return {
    status: 200,
    headers: {
      'Content-Type': 'text/html; charset=utf-8',
      'Cache-Control': 'no-store',
      'Content-Security-Policy': `default-src 'none'; style-src 'sha256-${sha256(STYLE)}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
      'X-Content-Type-Options': 'nosniff',
      'Referrer-Policy': 'same-origin',
    },
    body: body.toString(),
  }
}

function row(label: string, value: string): ReturnType<typeof html> {
  return html`<tr>
    <th scope="row">${label}</th>
    <td><code>${value}</code></td>
  </tr>`
}

function sha256(text: string): string {
  return hash('sha256', text, 'base64')
}
