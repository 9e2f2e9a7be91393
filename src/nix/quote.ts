const QUOTE_MAX_CHARS = 80

/**
 * Hostile text for an error message: a JSON string of its first 80 characters. Never for secrets.
 * All but ASCII is escaped too: JSON leaves C1 controls and bidi marks, which a terminal obeys.
 */
export function quote(text: string): string {
  const json = JSON.stringify(text.slice(0, QUOTE_MAX_CHARS)).replace(/[^ -~]/g, escape)
  return text.length <= QUOTE_MAX_CHARS ? json : `${json}... (${text.length} characters)`
}

function escape(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
}
