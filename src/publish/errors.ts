/** A path that was asked for cannot be published; it and those after it are not in the feed. */
export class PublishError extends Error {
  override readonly name = 'PublishError'
}
