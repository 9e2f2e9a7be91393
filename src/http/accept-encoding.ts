/**
 * Whether a request would rather have this content coding than none (RFC 9110 12.5.3). Only one that is named counts: `*` and
 * a missing header are from clients that did not think of it.
 */
export function prefersCoding(header: string | undefined, coding: string): boolean {
  const weights = new Map((header ?? '').split(',').flatMap(parseItem))
  const weight = weights.get(coding) ?? 0
  return weight > 0 && weight >= (weights.get('identity') ?? weights.get('*') ?? 0)
}

/** The client hint Downlink, megabits a second (https://wicg.github.io/netinfo/). @returns bytes a second */
export function parseDownlink(header: string | undefined): number | undefined {
  const megabits = /^[0-9]{1,12}(?:\.[0-9]{1,3})?$/.test(header ?? '') ? Number(header) : 0
  return megabits > 0 ? megabits * 125_000 : undefined
}

/** Nothing for an item that is malformed. */
function parseItem(item: string): [name: string, weight: number][] {
  const [, name, weight = '1'] =
    /^[ \t]*([!#$%&'*+.^_`|~0-9a-z-]+)[ \t]*(?:;[ \t]*q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)[ \t]*)?$/i.exec(
      item,
    ) ?? []
  return name === undefined ? [] : [[name.toLowerCase(), Number(weight)]]
}
