/**
 * The configuration file, field by field: this is its reference documentation too. Unknown keys are errors, so that a
 * typo cannot turn a wish into a default.
 */
import { messageOf } from '../log.ts'
import { normalize } from 'node:path'
import { z } from 'zod'
import { parsePublicKey } from '../nix/key.ts'
import { parsePathPattern } from '../nix/path-pattern.ts'
import { checkListenAddress, checkPeerAddress, parseHostPort } from './address.ts'
import { isLoopbackAddress } from './ip-address.ts'
import { parseSize } from './size.ts'

/** A string that `parse` takes; its error is the message. */
function parsed<T>(parse: (text: string) => T): z.ZodPipe<z.ZodString, z.ZodTransform<T, string>> {
  return z.string().transform((text, context) => {
    try {
      return parse(text)
    } catch (error) {
      context.addIssue({ code: 'custom', message: messageOf(error) })
      return z.NEVER
    }
  })
}

/** Nothing in it may be a secret: URLs are logged and shown, and what is after a `?` is for Nix. */
function url(...schemes: string[]): ReturnType<typeof parsed<URL>> {
  return parsed((text) => {
    const found = URL.parse(text)
    if (found === null || !schemes.includes(found.protocol.slice(0, -1))) {
      throw new RangeError(
        `expected a URL of ${schemes.join(', ')}, got ${JSON.stringify(withoutSecrets(text))}`,
      )
    }
    if (found.username !== '' || found.password !== '') {
      throw new RangeError(`expected a URL without user name and password, got one for ${found.host}`)
    }
    if (found.search !== '' || found.hash !== '') {
      throw new RangeError(`expected a URL without ? and #, got ${JSON.stringify(withoutSecrets(text))}`)
    }
    return found
  })
}

function withoutSecrets(url: string): string {
  return url
    .replace(/\/\/[^/]*@/, '//***@')
    .replace(/\?.*/s, '?…')
    .slice(0, 80)
}

const publicKey = parsed(parsePublicKey)
const hostPort = parsed(parseHostPort)
const loopbackPort = parsed((text) => {
  const address = parseHostPort(text)
  if (!isLoopbackAddress(address.host)) {
    throw new RangeError(
      `expected a loopback address: the cache is for this machine's own Nix; others come by [peer], got ${text}`,
    )
  }
  return address
})
/** In one spelling: the store directory is a part of what is signed. */
const folder = parsed((text) => {
  if (!text.startsWith('/') || text !== normalize(text) || (text.length > 1 && text.endsWith('/'))) {
    throw new RangeError(
      `expected an absolute path without . and .. and a slash at its end, got ${JSON.stringify(text.slice(0, 80))}`,
    )
  }
  return text
})
const host = z
  .string()
  .regex(/^(?:[a-z0-9.-]+|\[[0-9a-f:]+\])(?::[0-9]{1,5})?$/, 'expected host or host:port, in lower case')

export const PROFILES = ['private', 'lan', 'pool', 'public'] as const
export type Profile = (typeof PROFILES)[number]

/** Of what neighbours are asked. */
export const LAN_ASK = ['all', 'known'] as const

export const configSchema = z.strictObject({
  profile: z
    .enum(PROFILES)
    .optional()
    .describe('What this machine shares, and with whom. `private` (the default): nothing, with nobody.'),
  store_dir: folder.optional().describe('The Nix store. Default: /nix/store.'),
  store_root: folder
    .optional()
    .describe('Folder that the store is physically below, as with `nix --store ROOT`. Default: none.'),
  state_dir: folder
    .optional()
    .describe('Where narswarm keeps its state. Default: $STATE_DIRECTORY, else below $XDG_STATE_HOME.'),
  upstreams: z
    .array(url('http', 'https', 'file'))
    .optional()
    .describe('Binary caches to ask. Default: the substituters of nix.conf, else https://cache.nixos.org.'),
  cache: z
    .strictObject({
      listen: loopbackPort.optional().describe("Where this machine's Nix finds us. Default: 127.0.0.1:6277."),
      priority: z
        .int()
        .min(0)
        .max(1000)
        .optional()
        .describe('Lower is asked first; cache.nixos.org says 40. Default: 30.'),
      allowed_hosts: z
        .array(host)
        .optional()
        .describe('Further values of the Host header that are answered.'),
    })
    .optional()
    .describe('The binary cache for the Nix of this machine.'),
  peer: z
    .strictObject({
      listen: hostPort
        .optional()
        .describe(
          'Where others find what is shared. Default: [::]:6278, IPv4 too; only in a profile that shares.',
        ),
    })
    .optional()
    .describe('The HTTP listener for others: what is shared, as a binary cache and as an IPFS gateway.'),
  swarm: z
    .strictObject({
      listen: z
        .array(parsed(checkListenAddress))
        .optional()
        .describe('libp2p addresses. Default: port 6279 of IPv4 and IPv6, only in a profile that shares.'),
    })
    .optional()
    .describe('The libp2p listener for others.'),
  trust: z
    .strictObject({
      keys: z
        .array(publicKey)
        .optional()
        .describe(
          'Public keys (name:base64) that may vouch for a path. Default: trusted-public-keys of nix.conf, else cache.nixos.org-1.',
        ),
      threshold: z.int().min(1).max(16).optional().describe('How many of them must have signed. Default: 1.'),
    })
    .optional()
    .describe('Whose signatures count, before anything is passed on to Nix.'),
  share: z
    .strictObject({
      keys: z
        .array(publicKey)
        .optional()
        .describe('Only paths signed by one of these are shared or published. Default: cache.nixos.org-1.'),
      deny: z
        .array(parsed(parsePathPattern))
        .optional()
        .describe(
          'Store paths that others never get, whoever signed them: names with * and ?, such as "firefox-*", or full base names. Default: none.',
        ),
      upload: z
        .preprocess((value) => (value === 0 ? '0' : value), parsed(parseSize))
        .optional()
        .describe(
          'What all others together get in a second, such as 20MiB; 0: nothing, and nobody is answered. Default: as fast as it goes.',
        ),
      index_rate: parsed(parseSize)
        .optional()
        .describe(
          'Bytes a second at which what may be shared of the Nix store is read once, while nothing else moves, so that its blocks are found by CID. 0: only what others fetch. Default: 50MiB.',
        ),
    })
    .optional()
    .describe('What others may have.'),
  lan: z
    .strictObject({
      discover: z
        .boolean()
        .optional()
        .describe(
          'Whether neighbours are looked for, and told of us, by mDNS. Default: true in profile `lan`.',
        ),
      interfaces: z
        .array(z.string().regex(/^[^\s/%]{1,64}$/, 'expected the name of a network interface, such as eth0'))
        .min(1)
        .optional()
        .describe('Network interfaces that neighbours are looked for on. Default: all but loopback.'),
      ask: z
        .enum(LAN_ASK)
        .optional()
        .describe(
          'Of which paths neighbours hear that we look for them. `all` (the default); `known`: only of those that are public anyhow, in a followed feed or signed by one of share.keys; a path that nothing is known of is then asked of upstreams alone.',
        ),
    })
    .optional()
    .describe('Neighbours: those of peers.urls, and those that profile `lan` finds.'),
  peers: z
    .strictObject({
      urls: z
        .array(url('http', 'https'))
        .optional()
        .describe(
          'Binary caches of any kind, peer listeners of other narswarms and trustless gateways: neighbours, to get narinfos and bytes from.',
        ),
      addrs: z
        .array(parsed(checkPeerAddress))
        .optional()
        .describe('libp2p addresses of peers to get blocks from, each with /p2p/<peer id>.'),
    })
    .optional()
    .describe('Other machines to get paths from. None of them is trusted.'),
  feed: z
    .array(
      z.strictObject({
        name: z
          .string()
          .regex(/^[a-z0-9.-]+(?:\/[a-z0-9_-][a-z0-9._-]*)+$/, 'expected host/segment, in lower case')
          .describe('Name of the feed, such as narswarm.example.org/main.'),
        root_key: z
          .string()
          .regex(
            /^[^\s+]+\+[0-9a-f]{8}\+[A-Za-z0-9+/]{44}$/,
            'expected a vkey: <name>+<8 hex digits>+<base64>',
          )
          .describe("The feed's root key (vkey), as `narswarm feed create` printed it."),
        sources: z
          .array(url('http', 'https', 'file'))
          .min(1)
          .describe('Where its files are; none of them is trusted.'),
      }),
    )
    .optional()
    .describe('Feeds to follow.'),
  spool: z
    .strictObject({
      max_size: parsed(parseSize)
        .optional()
        .describe(
          'What fetched NARs may take on disk once nothing reads them any more, such as 20GiB; 0 keeps none. Published ones are not counted. Default: 20GiB or a tenth of the disk, whichever is less.',
        ),
      min_free: parsed(parseSize)
        .optional()
        .describe(
          'What stays free on that disk: NARs that would not leave it are not fetched, and Nix takes its next substituter. Default: 4GiB or a twentieth of the disk, whichever is less.',
        ),
    })
    .optional()
    .describe('Fetched NARs on our own disk, least recently used out first.'),
  upgrade: z
    .strictObject({
      rewrite: z
        .boolean()
        .optional()
        .describe(
          'Whether NARs are made of older paths in the local store, where the signed NarHash proves that nothing but store paths differs. Default: true.',
        ),
      relay: z
        .boolean()
        .optional()
        .describe(
          'Whether others who ask for it get differences of paths that are not here: new and old NAR are then fetched from the upstreams for them. For a server with a fast line, in a profile that shares. Default: false.',
        ),
      relay_max_bytes_per_day: z
        .union([z.int().min(0), parsed(parseSize)])
        .optional()
        .describe(
          'What is fetched so for others in 24 hours, as NARs are and not as they are packed: bytes, or a size such as 100GiB. Default: 50GiB.',
        ),
    })
    .optional()
    .describe('What an older version of a path, here already, saves.'),
  audit: z
    .strictObject({
      max_bytes_per_day: z
        .union([z.int().min(0), parsed(parseSize)])
        .optional()
        .describe(
          'What random audits of followed feeds may fetch in 24 hours: bytes, or a size such as 1GiB. 0 (the default): none are made.',
        ),
    })
    .optional()
    .describe('Entries of followed feeds, picked at random, whose NAR is fetched and hashed.'),
  log: z
    .strictObject({
      level: z.enum(['debug', 'info', 'warn', 'error']).optional().describe('Default: info.'),
      format: z.enum(['text', 'json']).optional().describe('Default: text.'),
    })
    .optional()
    .describe('The log, on stderr.'),
})

export const INDEX_RATE = 50 * 1024 ** 2
export const RELAY_MAX_BYTES_PER_DAY = 50 * 1024 ** 3

export type ConfigFile = z.output<typeof configSchema>

/** Of cache.nixos.org, the key that every Nix trusts from the start. */
export const NIXOS_KEY = 'cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY='
export const NIXOS_CACHE = 'https://cache.nixos.org'
