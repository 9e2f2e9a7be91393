/**
 * Whether `at` is less than `ms` ago by a clock that may be set meanwhile: a time that is still to come, since the clock was
 * ahead then, is over as well. Else a machine whose clock was days ahead when it started would wait for days.
 */
export function isLately(at: number | undefined, ms: number, clock: () => number): boolean {
  if (at === undefined) return false
  const ago = clock() - at
  return ago >= 0 && ago < ms
}
