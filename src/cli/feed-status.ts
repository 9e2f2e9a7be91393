import type { Command } from 'commander'
import type { FeedsReport } from '../operations/feeds-report.ts'
import { withOperations } from './connect.ts'
import { addConfigOption, addJsonOption } from './context.ts'
import type { CliContext, ConfigOption, JsonOption } from './context.ts'
import type { Output } from './output.ts'

export function addFeedStatus(feed: Command, context: CliContext): void {
  addJsonOption(addConfigOption(feed.command('status')))
    .description('list the feeds that are published and followed here')
    .action((options: ConfigOption & JsonOption) => feedStatus(context, options))
}

async function feedStatus(context: CliContext, options: ConfigOption & JsonOption): Promise<void> {
  const { output, signal } = context
  await withOperations(context, options, async (operations) => {
    const report = await operations.feeds({ signal })
    if (options.json === true) output.json({ version: 1, ...report })
    else if (report.published.length + report.followed.length > 0) printFeeds(output, report)
    else output.note('no feed is published or followed here; see narswarm feed create --help')
  })
}

export function printFeeds(output: Output, { published, followed }: FeedsReport): void {
  output.table(
    published.map((feed) => [feed.name, String(feed.size), feed.signed_at, feed.root_keys.join(' ')]),
    [
      { title: 'PUBLISHED FEED' },
      { title: 'ENTRIES', align: 'right' },
      { title: 'SIGNED' },
      { title: 'ROOT KEY' },
    ],
  )
  if (published.length > 0 && followed.length > 0) output.result('')
  output.table(
    followed.map((feed) => [
      feed.name,
      feed.state,
      String(feed.size),
      feed.signed_at ?? '-',
      feed.synced_at ?? '-',
    ]),
    [
      { title: 'FOLLOWED FEED' },
      { title: 'STATE' },
      { title: 'ENTRIES', align: 'right' },
      { title: 'SIGNED' },
      { title: 'LAST ASKED' },
    ],
  )
  for (const { name, problems, fork } of followed) {
    for (const problem of problems) output.complain(`feed ${name}: ${problem}`)
    if (fork !== undefined) {
      output.complain(
        `feed ${name}: FORKED, its log signed two histories (${fork.source}, ${fork.found_at}); do not trust it`,
      )
    }
  }
}
