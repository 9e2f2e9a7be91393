/** The configuration cannot be used. Names every problem at once, each with its place. Exit code 2. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
  readonly problems: readonly string[]
  constructor(file: string, problems: readonly string[], options?: ErrorOptions) {
    super(`configuration ${file}: ${problems.join('; ')}`, options)
    this.problems = problems
  }
}
