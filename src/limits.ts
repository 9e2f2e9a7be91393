/**
 * Every cap and deadline, named, with its reason. Nothing is read from outside without one of these.
 * Units are in the names: _BYTES, _MS, _COUNT. One section a layer.
 */

const KIB = 1024
const MIB = 1024 * KIB
const GIB = 1024 * MIB

// nix

/** The largest genuine one we know (texlive, 3,691 references) has 208 kB; attic had to allow this much. */
export const NARINFO_MAX_BYTES = 1 * MIB
/** Real narinfos carry one to three; a thousand would only burn CPU. */
export const NARINFO_MAX_SIGNATURES = 16
export const CACHE_INFO_MAX_BYTES = 64 * KIB
/** 1 TiB: no NAR in the field comes near, and the DAG stays three levels deep. */
export const NAR_MAX_BYTES = 1024 * GIB
/** Nix 2.34's own bounds on a NAR (libutil/archive.cc, after CVE-2026-44028). */
export const NAR_MAX_DEPTH = 64
export const NAR_MAX_TAG_BYTES = 32
export const NAR_MAX_NAME_BYTES = 255
export const NAR_MAX_TARGET_BYTES = 4095
/** The largest real trees have some 300,000 entries. */
export const NAR_MAX_ENTRIES_COUNT = 4_000_000
/** Some 100 bytes an entry: that of the largest real tree still fits. */
export const LISTING_MAX_BYTES = 32 * MIB

// dag

/** What every IPFS implementation refuses to move above (bitswap spec; trustless gateway spec). */
export const BLOCK_MAX_BYTES = 2 * MIB
/** An interior node of 1,024 links is about 50 kB; nothing larger is read as one. */
export const DAG_NODE_MAX_BYTES = 128 * KIB
export const CAR_HEADER_MAX_BYTES = 4 * KIB

// state

/** A second connection (feeds, the swarm's worker) waits so long for the writer. */
export const SQLITE_BUSY_TIMEOUT_MS = 5_000

// feed

/** C2SP tlog-tiles: an entry is framed by a uint16. */
export const FEED_ENTRY_MAX_BYTES = 65_535
/** As many as a real path has (three at most), with room for rebuilders. */
export const FEED_ENTRY_MAX_SIGNATURES = 8
/** `PRIVATE+KEY+`, a name of 255 characters and 33 bytes. */
export const FEED_KEY_FILE_MAX_BYTES = 4 * KIB
export const FEED_NOTE_MAX_BYTES = 64 * KIB
export const FEED_NOTE_MAX_SIGNATURES = 32
/** 256 entries of 65,535 bytes with their length prefixes. */
export const FEED_BUNDLE_MAX_BYTES = 256 * (65_535 + 2)
/** Bundles asked for while one is read: 64 MiB of hostile ones at most. */
export const FEED_BUNDLES_AHEAD_COUNT = 4
export const FEED_CLOCK_SKEW_MS = 600_000
/** A wall clock before this program was written is wrong, and judges no feed's age. */
export const FEED_SOFTWARE_DATE_MS = Date.UTC(2026, 0, 1)
/** How often a follower looks for a new head, and again after it found none at all. */
export const FEED_SYNC_MS = 60_000
export const FEED_SYNC_RETRY_MS = 2_000
/** How often a publisher says that its head still stands. */
export const FEED_HEARTBEAT_MS = 3600_000
export const FEED_FETCH_DEADLINE_MS = 30_000

// store

/** One chunk of a NAR, for who does not lend buffers. */
export const STORE_READ_BYTES = 1 * MIB
/** Contents of less are read at once: the way to a thread and back costs more than they do. */
export const STORE_SYNC_READ_BYTES = 128 * KIB
/** Files or directory entries after which everybody else gets a turn: 1 to 3 ms from the page cache. */
export const STORE_TURN_COUNT = 200
/** Layouts of trees, some 500 bytes a file: the largest real tree (300,000 entries) still fits. */
export const STORE_LAYOUTS_MAX_BYTES = 160 * MIB
export const STORE_LAYOUTS_MAX_COUNT = 1_000
/** Rows of Nix's database read into the index of names until everybody else gets a turn: some 5 ms. */
export const NAME_INDEX_TURN_COUNT = 2_000
/** The newest entries of the index, not sorted yet: looked through in some 5 µs. */
export const NAME_INDEX_RECENT_COUNT = 4_096
/** Rows looked at for one name, some 10 µs each: `source` has thousands. */
export const NAME_INDEX_ROWS_COUNT = 64
/** Valid paths of one package whose leaves a wanted one may be told from, some 100 µs each: the newest. */
export const OLDER_LOOKED_COUNT = 16
/** Leaves of older paths that are being read and hashed to be named, over all transfers, 1 MiB each. */
export const OLDER_LEAVES_COUNT = 4
/** Some 3 ms; a disk that takes longer than this, for its turn too, holds up no request. A tree of very many files may. */
export const OLDER_LEAF_MS = 300
/** In a row without a difference having come: whoever is asked has not got that path. A window of them is 30 ms of hashing. */
export const OLDER_LEAVES_IN_VAIN_COUNT = 12
/** Older paths of one name and size whose references are looked at, some 50 µs each: the newest. */
export const RELATIVES_LOOKED_COUNT = 8
/** Those of them that a NAR is tried to be made of: each is read and hashed to its end. */
export const RELATIVES_MAX_COUNT = 3
/** Orders of references with one name that are tried of one older path, and hashed each. */
export const PAIRINGS_MAX_COUNT = 4

// spool

/** One chunk of a NAR; a reader has two of them, and there may be hundreds of readers (P6). */
export const CHUNK_BYTES = 1 * MIB
/** The first of a reader: something goes out while the next is read. */
export const FIRST_CHUNK_BYTES = 256 * KIB
/** For a reader that has taken more than all buffers of a connection hold, so that it does read them, and is quick. */
export const LONG_CHUNK_BYTES = 4 * MIB
export const LONG_CHUNKS_AFTER_BYTES = 16 * MIB
/** After a chunk that took less the next is a long one; after one that took more it is not. */
export const LONG_CHUNKS_QUICK_MS = 2
export const LONG_CHUNKS_SLOW_MS = 8
/** Kept in memory of a NAR that is being written, for readers who keep up; a piece of less than the least is read with more. */
export const RECENT_BYTES = 256 * KIB
export const RECENT_PIECE_MIN_BYTES = 128 * KIB
/** So many new leaves, and what is on disk is noted: a crash costs no more, and `commit` has little left to wait for. */
export const SPOOL_SAVE_LEAVES_COUNT = 16
/** Last use is written no oftener than this; eviction by age needs no better. */
export const SPOOL_TOUCH_MS = 3_600_000
/** Part of a NAR that nobody asked for again: Nix has long had it from elsewhere. */
export const SPOOL_PART_MAX_AGE_MS = 7 * 24 * 3600 * 1000
/** The default quota and floor of the spool, and their shares of a small disk (docs/adr/014). */
export const SPOOL_MAX_DEFAULT_BYTES = 20 * GIB
export const SPOOL_MAX_DEFAULT_SHARE = 0.1
export const SPOOL_MIN_FREE_DEFAULT_BYTES = 4 * GIB
export const SPOOL_MIN_FREE_DEFAULT_SHARE = 0.05
/** Who reads a NAR piece by piece comes back for the next piece within this; until then it is in use. */
export const SPOOL_IN_USE_MS = 5_000
/** Removed in one go, so that nobody waits for a thousand files of a spool that had become far too large. */
export const SPOOL_EVICT_MAX_COUNT = 1_000
/** What is evicted beyond need, as a share of the quota: a full spool is not looked through for every NAR. */
export const SPOOL_EVICT_SLACK = 0.02
/** Pause between two looks whether Nix has registered what it was just given, and for how long it is looked for. */
export const SPOOL_YOUNG_LOOK_MS = 5_000
export const SPOOL_YOUNG_MS = 10 * 60_000
export const SPOOL_YOUNG_MAX_COUNT = 1_000
/** Pause between two looks at all of the spool: imported paths, old parts, quota, floor. */
export const SPOOL_TIDY_MS = 60_000
/** Rows looked at until everybody else gets a turn. */
export const SPOOL_TURN_COUNT = 200
/** After the disk has failed to take a NAR, others are refused at once for so long. */
export const SPOOL_BACK_OFF_MS = 30_000
/** Of what went, named one by one in the answer of `gc`. */
export const GC_NAMED_MAX_COUNT = 10_000
/** The same trouble with disk or database is told no oftener. */
export const TROUBLE_TOLD_MS = 60_000
/** A leaf of zeros may be in every NAR; nobody tries more places than this. */
export const LEAF_LOCATIONS_MAX_COUNT = 16
/** So many bad places are told in the log once each; then the list starts anew. */
export const LOCAL_BLOCKS_WARNED_MAX_COUNT = 1_024

/** NARs whose leaves are known to be right; a byte a leaf. */
export const PROOFS_MAX_COUNT = 4_096
/** After this a leaf is hashed again although its file says that it is unchanged: a disk may rot without a word. */
export const PROOF_MAX_AGE_MS = 600_000
/** A file changed less than this ago could change again with the same time: a kernel's clock ticks every 1 to 10 ms. */
export const PROOF_SETTLED_MS = 100
/** The same where the file system keeps whole seconds (ext4 with small inodes, some file servers), or two of them. */
export const PROOF_SETTLED_COARSE_MS = 3_000
/** Buffers of 1 MiB that lie ready for blocks on their way out. */
export const LOCAL_BLOCKS_BUFFERS_COUNT = 16

// upstream

/** A narinfo, by how long the last ones took. The ceiling must fire before RESOLVE_DEADLINE_MS, or nothing is learnt. */
export const UPSTREAM_NARINFO_FLOOR_MS = 1_500
export const UPSTREAM_NARINFO_CEILING_MS = 2_500
/** A host that takes no connection for so long will take none, and nobody else waits behind it. */
export const UPSTREAM_CONNECT_DEADLINE_MS = 4_000
/** What a connection over plain HTTP reads at once, at most; it has two such buffers. */
export const RECEIVE_BUFFER_BYTES = 128 * KIB
/**
 * A NAR is taken from an upstream in pieces, three of which may lie in memory: large ones cost less, and all NARs of an
 * upstream share the total (P6).
 */
export const UPSTREAM_PIECE_MIN_BYTES = 64 * KIB
export const UPSTREAM_PIECE_MAX_BYTES = 1 * MIB
export const UPSTREAM_PIECES_TOTAL_BYTES = 3 * MIB
/** From asking for a NAR to its first byte; before NAR_FIRST_BYTE_DEADLINE_MS, for the same reason. */
export const UPSTREAM_FIRST_BYTE_FLOOR_MS = 4_000
export const UPSTREAM_FIRST_BYTE_CEILING_MS = 8_000
/** Answers that a deadline is learnt from, which of them counts as a slow one, and how much slower the next may be. */
export const PATIENCE_SAMPLES_COUNT = 64
/** With fewer the ceiling stands: a quick nix-cache-info says little about the narinfos behind it. */
export const PATIENCE_MIN_SAMPLES_COUNT = 16
export const PATIENCE_PERCENTILE = 0.95
export const PATIENCE_FACTOR = 4
/** Failures in a row after which a host is left alone. */
export const BREAKER_FAILURES_COUNT = 3
/** For so long at first, doubled each time. A host that is back is missed for no longer than the ceiling. */
export const BREAKER_REST_FLOOR_MS = 2_000
export const BREAKER_REST_CEILING_MS = 30_000
/** A host may ask for a longer rest than ours, up to this. */
export const UPSTREAM_RETRY_AFTER_MAX_MS = 60_000
/** A request that failed quickly is made again, about so much later: a connection that idled too long, one bad backend. */
export const UPSTREAM_TRIES_COUNT = 2
export const UPSTREAM_RETRY_MS = 100
/** The whole of a build log or another small file that is passed on. */
export const UPSTREAM_FILE_DEADLINE_MS = 60_000
/** How often an upstream's nix-cache-info is read; Nix itself keeps it for a week. */
export const UPSTREAM_INFO_FRESH_MS = 24 * 3600_000
/** And while it cannot be had or used: a login page goes away. */
export const UPSTREAM_INFO_RETRY_MS = 60_000
/** No byte for so long is a dead source (curl's own default for Nix is 300 s). */
export const UPSTREAM_STALL_MS = 15_000
export const UPSTREAM_MAX_REDIRECTS = 3
/** An xz header may ask for 4 GiB; `xz -9` asks for this, which is also the most that our decoder takes. */
export const XZ_MAX_DICTIONARY_BYTES = 64 * MIB
/** Streams decoded at once. Each may fill a dictionary. */
export const XZ_THREADS_MAX_COUNT = 16
/** Kept for the next stream, with the dictionary of the last one in memory. */
export const XZ_THREADS_IDLE_COUNT = 2
export const XZ_THREAD_IDLE_MS = 10_000
/** JavaScript's own; pieces and dictionary are not in it. */
export const XZ_THREAD_HEAP_BYTES = 64 * MIB
/** What goes to a decoder and comes back at a time: the size of its own buffers. */
export const XZ_PIECE_BYTES = 64 * KIB
/** Pieces on their way to a decoder, and as many on their way back. */
export const XZ_PIECES_AHEAD_COUNT = 8
export const ZSTD_MAX_WINDOW_LOG = 27
/** What gzip, zstd and brotli give at a time; with Node's own 16 KiB the ways to a thread and back take half the time. */
export const DECODED_PIECE_BYTES = 256 * KIB
/** What a compressed NAR may be larger than an eighth more than the NAR: headers, tables and indexes of small ones. */
export const COMPRESSED_SLACK_BYTES = 1 * MIB
/** In a row: each costs a decoder, and pzstd's skippable ones never come in such numbers. */
export const COMPRESSED_MAX_EMPTY_FRAMES = 64
/** One read of a file of a folder cache. */
export const UPSTREAM_FILE_READ_BYTES = 256 * KIB
/** To one host, for narinfos; a Nix asks for 25 at once. */
export const UPSTREAM_SMALL_CONNECTIONS_COUNT = 32
/** To one host, for NARs: no fewer than TRANSFERS_MAX_COUNT, so that they queue in one place. */
export const UPSTREAM_BULK_CONNECTIONS_COUNT = 64

// swarm

/** Until the first byte of an answer, and between any two: a silent gateway is given up after this. */
export const GATEWAY_BLOCK_DEADLINE_MS = 10_000
/** Slower than this, over a whole block, is a stall too: a window of leaves over 300 KiB/s has 25 KiB/s each. */
export const GATEWAY_MIN_BYTES_PER_S = 16 * KIB
/** Until the next block of any kind from a peer of which blocks are wanted; a peer that goes on answering is alive. */
export const BITSWAP_BLOCK_DEADLINE_MS = 15_000
export const SWARM_DIAL_DEADLINE_MS = 10_000
/** V8's heap in the worker, buffers outside of it counted: smaller is slower, larger holds more garbage (P6; docs/adr/011). */
export const SWARM_HEAP_MB = 104
export const SWARM_YOUNG_HEAP_MB = 8
export const SWARM_MAX_CONNECTIONS = 300
/** libp2p's own default of 5 a second cuts off fleets behind one NAT address. */
export const SWARM_INBOUND_PER_SECOND = 50
/** Helia's default of 10 s moves nothing at all over 300 KiB/s [ipfs-stack 2.3]; a leaf at 10 KB/s takes this long. */
export const BITSWAP_MESSAGE_DEADLINE_MS = 120_000
/** A leaf and its head: larger ones miss the deadlines of slow links. */
export const BITSWAP_MESSAGE_BYTES = 1_200_000
/** A silent stream is closed after this; must stay well below the 10 s after which a Helia with its defaults resets it. */
export const BITSWAP_STREAM_LINGER_MS = 2_000
/** Unanswered wants of one peer, as Helia and boxo have it; more are not taken. */
export const BITSWAP_PEER_WANTS_COUNT = 1_024
/** Blocks in memory on their way out, over all peers. */
export const BITSWAP_SENDING_COUNT = 48
/** Streams a peer may have open towards us; each may hold a message of 4 MiB. A Helia opens one per message. */
export const BITSWAP_PEER_STREAMS_COUNT = 64
/** Answered and cancelled wants that are remembered per peer: their blocks may still arrive and are no lie. */
export const BITSWAP_PAST_WANTS_COUNT = 1_024
/** Wants a second that a peer may send, and after a rest: 5 GB/s in leaves, or the small NARs of a few closures at once. */
export const BITSWAP_PEER_WANTS_PER_S = 5_000
export const BITSWAP_PEER_WANTS_BURST_COUNT = 20_000
/** A peer that sends wants faster is not answered for so long at most, as long as it goes on. */
export const BITSWAP_PEER_REST_MS = 10_000
/** After a rest so much time's worth of `share.upload` goes out at once: finer than this timers are not. */
export const UPLOAD_BURST_MS = 250
export const SWARM_START_DEADLINE_MS = 20_000
export const SWARM_STOP_DEADLINE_MS = 5_000
/** A worker that crashes again at once is started again after 250 ms, 500 ms, ... up to this. */
export const SWARM_RESTART_FLOOR_MS = 250
export const SWARM_RESTART_CEILING_MS = 30_000
/** Connections to one gateway: the leaf window, and a little for interior nodes. */
export const GATEWAY_MAX_CONNECTIONS = 20
export const GATEWAY_MAX_HEADER_BYTES = 16 * KIB
/** A miss waits for the narinfo of a neighbour no longer than this: a round trip over a bad radio link takes a tenth of it. */
export const NEIGHBOUR_WAIT_MS = 150
/** One that says nothing at all for so long is not there. Until then its answer may still be of use to who has no other. */
export const NEIGHBOUR_SILENT_MS = 1_000
/** From asking a neighbour for a NAR to its first byte; it may have to read and pack it. */
export const NEIGHBOUR_FIRST_BYTE_MS = 4_000
/** So many times in a row nothing came of what it was asked for until others were quicker, and it counts as gone. */
export const NEIGHBOUR_IN_VAIN_COUNT = 3
/** What ends such a row: more than an interior node, which one that hangs at each leaf may well give. */
export const NEIGHBOUR_MAKES_UP_BYTES = 64 * KIB
/** Connections and accounts of neighbours that are not asked now are kept for so many. */
export const NEIGHBOURS_KEPT_COUNT = 64
/** Leaves are asked for in zstd of a peer whose link carries less, until it carries so many times as much (docs/adr/019). */
export const CODED_BELOW_BYTES_PER_S = 150_000_000
export const CODED_UNTIL_FACTOR = 2
/** The same on loopback: what is quicker is no tunnel but a busy machine, and coding would make it busier. */
export const CODED_ON_LOOPBACK_BELOW_BYTES_PER_S = 25_000_000
/** A link is judged over so many bytes that took so long: what a busy moment left in the kernel's buffers comes at no time. */
export const LINK_SAMPLE_BYTES = 1 * MIB
export const LINK_SAMPLE_MS = 20
/** Smaller bodies come in one piece, however slow the link: with many differences it would look quick. */
export const LINK_BODY_BYTES = 64 * KIB
/** Leaves of one peer being decoded; any more wait. While so many are it is asked for raw ones: then it is our CPU that is slow. */
export const DECODING_MAX_COUNT = 4
/**
 * Not where the link carries less: a raw leaf would take 42 ms, and a core decodes a whole window of them in less, one after
 * the other (1.5 to 3 ms each).
 */
export const DECODED_ANYHOW_BELOW_BYTES_PER_S = 25_000_000
/** 8 MiB, all that Content-Encoding may ask for (RFC 9659). */
export const CODED_WINDOW_LOG = 23
/** Room behind a decoded block. */
export const DECODED_SLACK_BYTES = 1 * KIB

// neighbours

/** Remembered, over restarts too; of those that were found the one unseen for the longest goes first. */
export const NEIGHBOURS_MAX_COUNT = 512
/** Asked at a time: an office. Each look-up goes to all of them. */
export const NEIGHBOURS_CURRENT_MAX_COUNT = 64
/** Found ones at one address: peer ids cost their owner nothing. */
export const NEIGHBOURS_PER_HOST_COUNT = 4
/** Left alone after it failed, doubled each time in a row. */
export const NEIGHBOUR_REST_FLOOR_MS = 2_000
export const NEIGHBOUR_REST_CEILING_MS = 5 * 60_000
/** What it gave was proved wrong. */
export const NEIGHBOUR_LIE_OUT_MS = 24 * 3600_000
/** When it was last seen is written no oftener. */
export const NEIGHBOUR_SEEN_MS = 10 * 60_000
/** So often is looked whether one that nobody asked anything is still there: it must be gone before Nix asks. */
export const NEIGHBOUR_PROBE_MS = 30_000
export const NEIGHBOUR_PROBE_DEADLINE_MS = 2_000
export const NEIGHBOUR_PROBES_COUNT = 16
/** Between two looks for those that are to be probed, at least. */
export const NEIGHBOUR_TURN_MS = 250
/** Until the first answers of those that were named; a start waits no longer for them. */
export const NEIGHBOUR_START_MS = 250
/** RFC 6762, 17. Ours have some 500 bytes. */
export const MDNS_PACKET_MAX_BYTES = 9_000
/** Of our service; of others only a label is looked at. */
export const MDNS_PACKETS_PER_SECOND = 100
export const MDNS_ADVERT_ADDRESSES_COUNT = 8
export const MDNS_ADVERTS_PER_PACKET_COUNT = 8
export const MDNS_TTL_S = 120
/** Pauses between questions: the first may be lost, and who starts later announces itself. The last one stays. */
export const MDNS_QUERY_PAUSES_MS = [1_000, 3_000, 10_000, 30_000, 60_000] as const
/** Whoever asks, and however often (RFC 6762, 6: once a second on each link). */
export const MDNS_ANSWER_PAUSE_MS = 1_000
/** Answers of many to one question do not collide (RFC 6762, 6). */
export const MDNS_ANSWER_DELAY_MS = 100
/** How often is looked whether an interface came or went. */
export const LINKS_LOOK_MS = 3_000
export const HELLO_MAX_BYTES = 1 * KIB
/** Dial, handshake and both lines: on a LAN some 20 ms. */
export const HELLO_DEADLINE_MS = 3_000
/** Answered in all: each may become a row and a line of the log. */
export const HELLOS_PER_MINUTE_COUNT = 240
export const HELLO_STREAMS_COUNT = 2
/** Narswarms for another store that the log tells of, each once. */
export const HELLO_TOLD_MAX_COUNT = 1_000
/** One that is still connected is greeted again no sooner, however often it is heard. */
export const HELLO_FRESH_MS = 30_000
/** One that was named by its multiaddr is greeted again, heard or not: it may have moved. */
export const HELLO_NAMED_MS = 5 * 60_000
/** Those that were heard: a flood of them costs no more than this. */
export const DIAL_CANDIDATES_COUNT = 256
/** Told by one sender. */
export const DIAL_CANDIDATES_PER_SENDER_COUNT = 4
/** Not heard for so long: forgotten. */
export const DIAL_CANDIDATE_MS = 3 * 60_000
export const DIALS_AT_ONCE_COUNT = 4
export const DIALS_PER_MINUTE_COUNT = 30
/** After a failure, doubled each time in a row. */
export const DIAL_REST_FLOOR_MS = 2_000
export const DIAL_REST_CEILING_MS = 5 * 60_000
/** Of `peer ban`, and of what others say about a neighbour. */
export const NEIGHBOUR_REASON_MAX_CHARS = 200

/**
 * Smaller NARs are not asked for along the way: upstream sends one in the time that asking takes, and in a closure all of
 * them together have about a hundredth of its bytes.
 */
export const ALONG_MIN_BYTES = 64 * KIB
/** The first so many in the order of a NAR are asked: whoever fetches it is among them for all others, too. */
export const ALONG_ASKED_MAX_COUNT = 8
/** An answer without a wait: some round trips of a LAN, or one of a busy machine. Nobody waits longer to hear of nothing. */
export const ALONG_ANSWER_MS = 100
/** For a neighbour that is before us in the order and looks for the NAR itself; then we fetch it. */
export const ALONG_WAIT_MS = 300
/** The same while its Nix has only asked for the narinfo; shorter, so that the next in the order still can be waited for. */
export const ALONG_EXPECTED_WAIT_MS = 200
/** A neighbour for which that was in vain is behind or ahead of us in its closure: it is not waited for so for a while. */
export const ALONG_LATE_MS = 10_000
export const ALONG_LATE_MAX_COUNT = 1_000
/** An answer later than this, or none, is a fault of the neighbour; nobody waits for it so long. */
export const ALONG_REQUEST_MS = 2_000
/** From a neighbour that fetches the NAR; upstream is asked beside it then. It has to get its own first byte, and of a small one all. */
export const ALONG_FIRST_BYTE_MS = 2_000
/** Connections to one neighbour for asking, and as many for NARs: as UPSTREAM_BULK_CONNECTIONS_COUNT. */
export const ALONG_CONNECTIONS_COUNT = 64

// substitute

/** The whole narinfo look-up: later than this is a 404, since Nix waits for nothing better. */
export const RESOLVE_DEADLINE_MS = 3_000
/**
 * Nothing of a NAR up to this goes out before its NarHash is proved, when its bytes come from a neighbour and nobody else told
 * the root: a lie is then made good without Nix seeing it. So much comes over 100 Mbit/s in the time, after which it goes out
 * as any other: a slow neighbour may be the only one.
 */
export const UNPROVEN_HELD_MAX_BYTES = 32 * MIB
export const UNPROVEN_HELD_MS = 3_000
/** Verified narinfos in memory: about 1 kB each. */
export const RESOLVED_MAX_COUNT = 20_000
/** After this a narinfo in memory is looked up again, and its row marked as given: see NARINFO_ANSWERABLE_MS. */
export const RESOLVED_MAX_AGE_MS = 24 * 3600 * 1000
/** Who offered what, in memory. */
export const OFFERS_MAX_COUNT = 20_000
/** The last bytes of a NAR response leave only when its NarHash is proved (design 5, step 4). */
export const HELD_BACK_BYTES = 256 * KIB
/** Older paths rewritten and hashed at once. Each takes a core: the transfers under way need theirs, too. */
export const REWRITE_PROOFS_COUNT = 2
/** Waiting for a turn, reading and hashing: 3 GB from the page cache. The network still has its time before the 404. */
export const REWRITE_PROOF_DEADLINE_MS = 4_000
/**
 * An older path of which nothing could be read for so long may be on a disk that hangs, or be a tree of very many files: the
 * network is asked beside it then. Reading and hashing that goes on is waited for: as a rule it is over before a first byte.
 */
export const REWRITE_QUIET_MS = 300
/** An older path that gave another NAR gives no better one when Nix asks again. */
export const REWRITE_FAILED_MAX_COUNT = 10_000
export const REWRITE_FAILED_MAX_AGE_MS = 3600_000
/** What proved right is not hashed again for a second round; some 60 bytes a MiB. */
export const REWRITE_PROVED_MAX_COUNT = 64
export const REWRITE_PROVED_MAX_AGE_MS = 60_000
/** What has proved right goes out at the disk's speed, so many at once, some 6 MiB each in memory (P6); others wait so long. */
export const REWRITE_STREAMS_COUNT = 4
export const REWRITE_FIRST_BYTE_MS = 4_000
/** Which path became which, for the next path that refers to both. */
export const REWRITE_PAIRS_MAX_COUNT = 10_000
/** Leaves of older paths being read and hashed, over all transfers: the buffers that they came for wait meanwhile. */
export const REWRITE_LEAVES_COUNT = 4
/** After so many wrong leaves in a row only each eighth is tried, until one is right. */
export const REWRITE_LEAF_MISSES_COUNT = 4
export const REWRITE_LEAVES_APART_COUNT = 8
/** Leaves asked for ahead of the reader. */
export const LEAF_WINDOW_COUNT = 12
/** With sources nobody has measured: over 300 KiB/s a whole window would have its first leaf after a minute. */
export const LEAF_WINDOW_START_COUNT = 2
/** A leaf that came sooner makes the window larger by one, one that came later than LEAF_SLOW_MS smaller. */
export const LEAF_QUICK_MS = 2_000
export const LEAF_SLOW_MS = 4_000
/** Leaves in memory or under way over all transfers, 1 MiB each: the more of these, the smaller their windows (P6). */
export const LEAVES_MAX_COUNT = 128
/** Pieces on their way to disk while the next ones are hashed. */
export const WRITES_BEHIND_COUNT = 4
/** Buffers of 1 MiB that lie ready for the next leaf: a window and a half. */
export const LEAF_BUFFERS_COUNT = 18
/** In flight at one source while there are others, a quarter of the window; one that is alone gets all of it. */
export const LEAF_IN_FLIGHT_PER_SOURCE_COUNT = 3
export const LEAF_STALL_FLOOR_MS = 2_000
/** The same for one that lies here or is made here: some milliseconds, unless the disk hangs. */
export const LEAF_HERE_STALL_FLOOR_MS = 300
/** A leaf slower than this many times its source's average is asked of the next one. */
export const LEAF_STALL_FACTOR = 4
/** The last leaves are doubled, but not one that may be here in a moment: a small NAR would always be fetched twice. */
export const LEAF_LATE_FLOOR_MS = 250
/** Another source gave a leaf, and this one not a byte in so many times as long: it hangs, and is not merely slower. */
export const LEAF_HANGS_FACTOR = 3
/** An interior node has 50 kB at most: after so much silence the next source is asked beside the first. */
export const NODE_STALL_MS = 500
/** A source that failed is left alone for this long, doubled each time in a row. */
export const SCORE_BACK_OFF_MS = 2_000
export const SCORE_BACK_OFF_MAX_MS = 5 * 60_000
/** A source that gave wrong bytes. */
export const SCORE_LIE_BACK_OFF_MS = 3600_000
/** So many faults within one NAR, and a source is out for the rest of it. */
export const SOURCE_MAX_FAULTS_PER_NAR = 3
/** A source that let us wait so long for nothing is out for the rest of the NAR at its first fault. */
export const SOURCE_SILENT_MS = 5_000
/** Sources with an account, each of a neighbour's two and roots that proved wrong among them: about 300 bytes each. */
export const SCORES_MAX_COUNT = 2_048
/** One block asked of a peer whose back-off is over, beside the NARs: P8 lets none of them wait for it. */
export const PROBE_DEADLINE_MS = 5_000
/** The next way is begun beside one that has given nothing for the p80 of so many first bytes, within these bounds. */
export const HEDGE_SAMPLES_COUNT = 32
export const HEDGE_START_MS = 300
export const HEDGE_FLOOR_MS = 100
export const HEDGE_CEILING_MS = 1_000
/** The same for one that had begun and has fallen silent; doubled each time that was too hasty. */
export const WAY_QUIET_MS = 1_500
/** A further way is begun when the last one that was begun has been silent for so long, too; so many beside the followed one. */
export const RIVAL_SILENT_MS = 1_000
export const RIVALS_MAX_COUNT = 4
/** A way's pace is that of its last so many milliseconds, and looked at so often. */
export const WAY_PACE_MS = 5_000
export const WAY_LOOK_MS = 250
/** The next way is tried beside one that is slower than this: a stream of one byte a second would hold a NAR for ever. */
export const WAY_SLOW_BYTES_PER_S = 128 * KIB
/** Below this a way is compared with what is known of the next one; above, nobody gains much. */
export const WAY_FAST_BYTES_PER_S = 4 * MIB
/** So many times the pace is worth a change of way; less may be chance, or the line that both share. */
export const PACE_FACTOR = 4
/**
 * The same for leaving a neighbour that is fetching the NAR itself: many NARs share the line to upstream, unequally. With 4,
 * five hosts on a line of 50 Mbit/s left each other so often that upstream sent 1.6 times what it had to.
 */
export const GROWING_PACE_FACTOR = 16
/** A pace is measured over so many bytes at least, and forgotten after a minute: then it is measured anew. */
export const PACE_MIN_BYTES = 256 * KIB
export const PACE_MAX_AGE_MS = 60_000
/** Peers that all failed lately and have given nothing yet, with nobody else to ask: the 404 does not wait for longer. */
export const LAST_RESORT_MS = 5_000
/** Ways that neighbours told of which may be gone before all upstreams have said what they have: any number of strangers may say so. */
export const STRANGER_WAYS_COUNT = 3
/** Ways that broke off are tried again as long as each round brings bytes, so often at most. */
export const WAY_MAX_ROUNDS_COUNT = 8
/** Nobody reads a NAR any more: it is fetched on for this long, then given up and its part kept. */
export const ORPHAN_GRACE_MS = 5_000
/**
 * Of a NAR whose wrong bytes went out before they were proved wrong no range is given for so long: a Nix that resumes would
 * put the right end behind the wrong beginning. Longer than its five tries take.
 */
export const WRONG_BEGINNING_MS = 60_000
export const WRONG_BEGINNINGS_MAX_COUNT = 1_000
/** Nothing has moved for so long: leaves of NARs that came as a stream are hashed now. By then Nix has imported most. */
export const LATE_INDEX_IDLE_MS = 15_000
/** NARs that wait for it; any more are hashed when somebody asks for them. */
export const LATE_INDEX_MAX_COUNT = 10_000
/**
 * Whole NARs moving at once; more wait their turn, and miss after NAR_FIRST_BYTE_DEADLINE_MS. A Nix asks for 25; see
 * LEAVES_MAX_COUNT for their memory (P6).
 */
export const TRANSFERS_MAX_COUNT = 64
/** A NAR is read and hashed for its listing: 20 GB from a fast disk. No Nix waits for one. */
export const LISTING_DEADLINE_MS = 60_000
/** Bytes must be in hand by then, or the answer to Nix is 404 and its next substituter's turn. */
export const NAR_FIRST_BYTE_DEADLINE_MS = 10_000
/** NARs up to this size are fetched between their narinfo and the request for them (0.3 to 1.4 s in the field). */
export const HINT_NAR_MAX_BYTES = 256 * KIB
/** Hints that nobody has come for yet: a closure that is only looked at costs this much in HINT_HELD_MS at most. */
export const HINTS_MAX_BYTES = 4 * MIB
/**
 * Both are more where the line was measured: what it carries in this time, so that it is not idle while Nix asks for one narinfo
 * after the other, and a closure that is only looked at never costs a slow line more than it did.
 */
export const HINT_NAR_MS = 125
export const HINTS_MS = 500
export const HINTS_FAST_MAX_BYTES = 64 * MIB
export const HINTS_MAX_COUNT = 128
export const HINTS_SEEN_MAX_COUNT = 4_096
/** Nix asks for what it wants within this time; afterwards the hint is given up. */
export const HINT_HELD_MS = 5_000
/** With so many NARs moving the line has better to do. */
export const HINT_MAX_TRANSFERS_COUNT = 8
/** Roots fetched ahead, some 100 kB each. */
export const HINT_ROOTS_COUNT = 64
/** NARs whose narinfo our Nix was given lately, and for how long it is believed to ask for their bytes next. */
export const EXPECTED_NARS_MAX_COUNT = 20_000
export const EXPECTED_NAR_MS = 120_000
/** Nix keeps a narinfo it was given for 30 days, and may ask for its NAR all that time; a day for RESOLVED_MAX_AGE_MS. */
export const NARINFO_ANSWERABLE_MS = 31 * 24 * 3600 * 1000
/** Older rows go so many at a time: some 50 ms, in which nothing else is done. */
export const NARINFO_PRUNE_COUNT = 5_000
export const NARINFO_PRUNE_MS = 24 * 3600 * 1000
/** Between two times, while there are more. */
export const NARINFO_PRUNE_NEXT_MS = 1_000
/** Narinfos that the disk would not take, in memory until it does: about 1 kB each. */
export const NARINFO_UNSAVED_MAX_COUNT = 5_000

/** Smaller NARs no relay is asked for: asking takes a round trip, fetching at the relay some more. */
export const RELAY_MIN_BYTES = 4 * MIB
/** What is left of a NAR has to take so long at its present pace, before a relay is asked and again before it takes over. */
export const RELAY_WORTH_MS = 2_000
/** How often that is looked at. */
export const RELAY_LOOK_MS = 500
/** Leaves in hand that are held against a relay's root before any leaf is asked for: the last ones. */
export const RELAY_HELD_AGAINST_COUNT = 8

// audit

/** Between two random audits, at least; so often is looked whether there is something to audit, too. */
export const AUDIT_PAUSE_MS = 30_000
/** One NAR: 1 GB over 300 KiB/s. */
export const AUDIT_DEADLINE_MS = 3600_000
/** Nothing of a NAR for so long, and its next source is tried. */
export const AUDIT_STALL_MS = 30_000
/** Leaves on their way at once: an audit has time, and memory is for those who wait. */
export const AUDIT_WINDOW_COUNT = 4
/** Random positions looked at for one audit, some 50 microseconds each. What 256 of them miss is less than a hundredth. */
export const AUDIT_DRAWS_COUNT = 256
/** After this an audit is forgotten, and the entry as good as any other. */
export const AUDIT_REMEMBERED_MS = 30 * 24 * 3600 * 1000
/** When all others were audited, those of longer ago than this are again. */
export const AUDIT_AGAIN_MS = 24 * 3600 * 1000
/** Wrong entries in the status, newest first; all are counted. */
export const AUDIT_TOLD_MAX_COUNT = 100
/** Of `verify --feed`, which is fetched beside the daily budget. */
export const AUDIT_SAMPLE_DEFAULT_COUNT = 10
export const AUDIT_SAMPLE_MAX_COUNT = 100_000
/** Positions of a feed looked at until everybody else gets a turn. */
export const AUDIT_TURN_COUNT = 64

// relay

/** A request is answered within this, with `later` if need be: shorter than any proxy's patience. */
export const RELAY_ANSWER_MS = 10_000
/** Beyond that the asker waits for the answer so long, and then leaves the relay alone for a while. */
export const RELAY_ANSWER_SLACK_MS = 5_000
export const RELAY_REST_MS = 60_000
/** One that answers `later` at once is asked again after so long. */
export const RELAY_AGAIN_MS = 1_000
/** A person has one or two. */
export const RELAYS_MAX_COUNT = 4
/** To one relay, each with one question: as many as NARs that a Nix asks for at once. */
export const RELAY_CONNECTIONS_COUNT = 32
/** NARs fetched for others at once; each has an xz thread, and our own Nix needs some, too. */
export const RELAY_FETCHES_COUNT = 6
/** One NAR: 1 GB at 1 MB/s. */
export const RELAY_FETCH_DEADLINE_MS = 1_000_000
/** Paths that are being fetched or wait for it: a Nix asks for 25 at once, each with an older one. */
export const RELAY_JOBS_MAX_COUNT = 128
/** A path that could not be had is not looked for again at once. */
export const RELAY_REFUSED_MS = 60_000
export const RELAY_REFUSED_MAX_COUNT = 10_000

// store indexer

/** Rows of Nix's database looked at until everybody else gets a turn: some 10 ms when all of them are new. */
export const INDEXER_LIST_COUNT = 32
/** And while somebody else has something to do, as a pause after so many rows, or before the next leaf. */
export const INDEXER_BUSY_MS = 100
/** Pause between two looks at what Nix has registered since. */
export const INDEXER_LOOK_MS = 5_000
/** Pause between two looks at all of a store that changed: 200,000 paths cost some seconds. */
export const INDEXER_REVIEW_MS = 600_000
/** Large NARs that somebody asked for, which come first; the others have their turn later. */
export const INDEXER_ASKED_MAX_COUNT = 1_000

// explain

/** Reading and hashing of older paths, for a person who waits: some 10 GB from the page cache. */
export const EXPLAIN_TRIALS_DEADLINE_MS = 30_000
/** Nodes of the DAG, so that it can be said which leaves match; without them it is not said. */
export const EXPLAIN_NODES_DEADLINE_MS = 5_000
/** Paths of the same package that are named though they cannot be of use. */
export const EXPLAIN_OTHERS_COUNT = 8

// publish

/** NARs whose signatures are looked at anew at a time, some 150 µs each, and the pause for everybody else after them. */
export const SHARE_REVIEW_TURN_COUNT = 32
export const SHARE_REVIEW_PAUSE_MS = 20
/** Paths in one call; the largest closures have some 10,000. */
export const PUBLISH_MAX_PATHS_COUNT = 1_000_000
/** Entries between two checkpoints of one call: what a crash can cost. */
export const PUBLISH_BATCH_COUNT = 256
/** Requests of neighbours that are held until a NAR is on its way; any more are answered at once. */
export const ALONG_WAITING_MAX_COUNT = 256

/** NARs of the store that are being read for the first time: some state each, and no buffer while nobody reads. */
export const FIRST_READS_MAX_COUNT = 64
/** A first read that its reader left goes on where it was when somebody comes within this. */
export const FIRST_READ_KEPT_MS = 60_000
/** A range of such a NAR waits until all of it is hashed, and for no longer than a source's first byte is waited for. */
export const FIRST_READ_RANGE_DEADLINE_MS = 8_000
/** Store paths whose bytes were not what Nix registered are not offered for so long: each look would hash them again. */
export const BAD_PATH_MS = 300_000
export const BAD_PATHS_MAX_COUNT = 10_000
/** Paths that others asked for and the database would not take, some 200 bytes each. */
export const ASKED_PATHS_UNSAVED_MAX_COUNT = 10_000

// http

/** The build log of a chromium has some 30 MB; it is held in memory until it is sent. */
export const LOG_MAX_BYTES = 64 * MIB
/** That of an upstream, for a path whose NAR is not here: parsed at a stretch, in a tenth of a second. */
export const PASSED_LISTING_MAX_BYTES = 8 * MIB
/** A realisation has some 300 bytes, and as many for each it depends on. */
export const REALISATION_MAX_BYTES = 256 * KIB
/** Two short strings. */
export const DEBUG_INFO_MAX_BYTES = 4 * KIB
/** All upstreams in turn, for what a person or a tool waits for; a build waits no longer than for a narinfo. */
export const PASSED_FILE_DEADLINE_MS = 30_000
/** Node's own defaults are 60 s, 300 s and no bound on connections [security 5]. */
export const HTTP_HEADERS_TIMEOUT_MS = 10_000
export const HTTP_REQUEST_TIMEOUT_MS = 15_000
export const HTTP_KEEP_ALIVE_TIMEOUT_MS = 30_000
export const HTTP_CONNECTIONS_CHECK_MS = 1_000
export const HTTP_MAX_HEADERS_COUNT = 64
export const HTTP_MAX_HEADER_BYTES = 8 * KIB
export const HTTP_MAX_CONNECTIONS = 1_024
export const HTTP_MAX_REQUESTS_PER_SOCKET = 10_000
/** The longest real target, a `log/<drv>` with 211 characters of name all escaped, is a third of it. */
export const HTTP_MAX_TARGET_BYTES = 2 * KIB
/** A client that takes no byte for so long is cut; Nix may pause a transfer, and gives up on us after the same time. */
export const HTTP_STALL_TIMEOUT_MS = 300_000
/** Requests that wait behind one under way on their socket. curl, so Nix, sends none. */
export const HTTP_MAX_PIPELINED_COUNT = 1_024
/** Addresses that the peer listener keeps count of, least recently seen out first; some 500 bytes each. */
export const PEER_ADDRESSES_MAX_COUNT = 4_096
/** Of those in the status. */
export const STATUS_PEERS_MAX_COUNT = 100
/** Of one address: 10 Gbit/s of leaves in zstd, or all narinfos of a few closures at once. */
export const PEER_REQUESTS_PER_S = 5_000
export const PEER_REQUESTS_BURST_COUNT = 20_000
/** Under way from one address: several Nixes of 25 connections and the windows of several neighbours behind one NAT. */
export const PEER_REQUESTS_COUNT = 256
/**
 * Of those, NARs, blocks and files of feeds that go out; any more wait. A large NAR has up to four leaves in memory (one in the
 * socket, one read ahead of it, one hashed ahead of that, one not given back yet), or two long chunks once it has gone out
 * quickly for a while; most answers have less than 1 MiB.
 */
export const PEER_BODIES_COUNT = 64
/** The same over all addresses: with readers that take nothing 384 MiB at worst (P6). */
export const PEER_ALL_BODIES_COUNT = 96
/** One whose reader has taken nothing for so long is cut when somebody else waits: that is less than 50 KiB a second. */
export const PEER_STALLED_MS = 20_000
/** A request that is not its turn by then is refused; gateways are given up after GATEWAY_BLOCK_DEADLINE_MS. */
export const PEER_WAIT_MS = 5_000
/** Coded leaves that lie ready for the next who asks; with so much for each beside its bytes. */
export const CODED_LEAVES_MAX_BYTES = 64 * MIB
export const CODED_LEAVES_ENTRY_BYTES = 256
/** Of its size: a leaf that stays larger goes out as it is. */
export const CODED_LEAF_WORTH = 0.9
/** One packet or three: nobody notices. */
export const CODED_LEAF_MIN_BYTES = 4 * KIB
/** What zstd gives at a time; Node's own 16 KiB cost a tenth of the pace. */
export const CODED_PIECE_BYTES = 128 * KIB
export const CODERS_MAX_COUNT = 2
/** What coding a leaf takes until it was measured, and again when that is so long ago. */
export const CODERS_START_MS = 5
export const CODERS_PACE_MAX_AGE_MS = 60_000
/** Leaves that wait to be coded or are, in all and of one peer: two windows, and one. */
export const CODERS_LEAVES_COUNT = 24
export const CODERS_PEER_LEAVES_COUNT = 12
/** A leaf waits no longer for a peer that does not say what its link carries. */
export const CODERS_WAIT_MS = 50
/** After SIGTERM responses under way get this long. */
export const SHUTDOWN_GRACE_MS = 10_000

/** A call over the admin socket; some 200,000 store paths to publish. */
export const ADMIN_BODY_MAX_BYTES = 16 * MIB

// cli

/** An answer over the admin socket: the status of a machine that follows very many feeds. */
export const ADMIN_ANSWER_MAX_BYTES = 16 * MIB
/** Paths, one a line: as JSON they must still fit into a call over the admin socket. */
export const CLI_STDIN_MAX_BYTES = 12 * MIB
/** One event of `publish`. */
export const ADMIN_LINE_MAX_BYTES = 64 * KIB

/** The demo's processes are up by then, or something is wrong. */
export const DEMO_START_DEADLINE_MS = 30_000

// config

export const CONFIG_MAX_BYTES = 1 * MIB
export const NIX_CONF_MAX_BYTES = 1 * MIB
/** Files that include files that include files. */
export const NIX_CONF_MAX_INCLUDES = 8
export const NIX_CONF_MAX_FILES_COUNT = 100
