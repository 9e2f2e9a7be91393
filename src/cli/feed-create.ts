import type { Command } from 'commander'
import { withOperations } from './connect.ts'
import { addConfigOption, addJsonOption } from './context.ts'
import type { CliContext, ConfigOption, JsonOption } from './context.ts'

const DEFAULT_PEER_PORT = 6278

export function addFeedCreate(feed: Command, context: CliContext): void {
  addJsonOption(addConfigOption(feed.command('create')))
    .description('start a feed that this machine publishes')
    .argument('<name>', 'a domain of yours and a path: example.org/main')
    .addHelpText(
      'after',
      `
Makes the feed's keys in the state directory; back up keys/ and feeds/ there.
Prints what others put into their configuration to follow the feed.

Example:
  narswarm feed create example.org/main`,
    )
    .action((name: string, options: ConfigOption & JsonOption) => feedCreate(context, name, options))
}

async function feedCreate(
  context: CliContext,
  text: string,
  options: ConfigOption & JsonOption,
): Promise<void> {
  const { output, signal } = context
  await withOperations(context, options, async (operations, { peer }) => {
    const { name, rootKey } = await operations.createFeed(text, { signal })
    if (options.json === true) {
      output.json({ version: 1, name, root_key: rootKey })
      return
    }
    output.note(`feed ${name} is there, and empty; add to it: narswarm publish --feed ${name} PATH...`)
    output.note('others follow it with:')
    output.result('[[feed]]')
    output.result(`name = "${name}"`)
    output.result(`root_key = "${rootKey}"`)
    // Port 0 is another one at each start.
    const port = peer?.listen.port || DEFAULT_PEER_PORT
    output.result(`sources = ["http://THIS-MACHINE:${port}/feed/${name}"]`)
    if (peer === undefined) {
      output.note(
        'profile private has no peer listener: choose another profile, or copy its files to a web server',
      )
    }
  })
}
