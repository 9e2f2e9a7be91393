/** A command as `spawn` takes it, put so that it runs in another place: on another host, with another root folder. */
export type Place = (program: string, args: readonly string[]) => [command: string, args: string[]]

export const here: Place = (program, args) => [program, [...args]]
