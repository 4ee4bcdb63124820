/** Markup that is already safe; only `html` and `trusted` make it. */
export class Html {
  constructor(readonly text: string) {}
}

export type HtmlValue = Html | string | number | null | undefined | false | readonly HtmlValue[];

/**
 * Markup in which every interpolated value is escaped, unless it is itself markup.
 *
 * @example
 * html`<p title="${caption}">${caption}</p>`.text;   // inert, whatever the caption holds
 */
export function html(strings: TemplateStringsArray, ...values: readonly HtmlValue[]): Html {
  return new Html(strings.reduce((text, part, i) => text + markup(values[i - 1]) + part));
}

/** Text that is inserted as it is: for our own scripts and style sheets. */
export const trusted = (text: string): Html => new Html(text);

const ENTITIES: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

/** Safe as an element's text and between quotes in an attribute. */
export const escapeHtml = (text: string): string => text.replace(/[&<>"']/g, (char) => ENTITIES[char]);

/**
 * JSON that is safe inside a script element: `</script>` and `<!--` cannot occur, nor the two line separators that end
 * a line in older JavaScript. Numbers that are not finite become null.
 */
export function scriptJson(value: unknown): string {
  return (JSON.stringify(value) ?? 'null').replace(
    /[<>&\u2028\u2029]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

function markup(value: HtmlValue): string {
  if (value instanceof Html) return value.text;
  if (Array.isArray(value)) return value.map(markup).join('');
  return value === null || value === undefined || value === false ? '' : escapeHtml(String(value));
}
