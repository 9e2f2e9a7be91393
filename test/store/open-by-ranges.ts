import type { LocalStore } from '../../src/store/local-store.ts'

/** `openNar` for a store made up by a test, out of its `readNarInto`. */
export function openByRanges(
  store: Pick<LocalStore, 'readNarInto'>,
  ...[path, options]: Parameters<LocalStore['openNar']>
): ReturnType<LocalStore['openNar']> {
  return Promise.resolve({
    read: (start, target) => store.readNarInto(path, { start, end: start + target.length }, target, options),
    close() {},
  })
}
