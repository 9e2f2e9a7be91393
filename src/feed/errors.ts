/** Bytes that are no entry, note, checkpoint, root document, bundle or key of this format. Whoever gave them is out for now. */
export class FeedFormatError extends Error {
  override readonly name = 'FeedFormatError'
}

/** Well formed, and not signed as it must be: unknown key, bad signature, too few signatures. */
export class FeedSignatureError extends Error {
  override readonly name = 'FeedSignatureError'
}

/** Well formed and signed, and against the rules: from the future, expired, another feed's, a jump too large. */
export class FeedRefusedError extends Error {
  override readonly name = 'FeedRefusedError'
}

/** A key file that is missing, open to others, a link, in the Nix store, or not the key that was asked for. */
export class FeedKeyError extends Error {
  override readonly name = 'FeedKeyError'
}

/**
 * The publisher's own files do not agree with each other or with its keys. Nothing is signed on top of that:
 * restore the feed's folder from a copy (a mirror has one), or create a new feed.
 */
export class PublisherStateError extends Error {
  override readonly name = 'PublisherStateError'
}
