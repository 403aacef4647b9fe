/**
 * Server-sent events from chunks of text, as the HTML standard parses them (§9.2.6, "Interpreting an event stream").
 *
 * The browser's own EventSource cannot send an Authorization header; that is why this exists. Invariant: the events do not depend on
 * where the chunks were cut. `id` and `retry` are read over: each of our messages is whole, so there is nothing to resume.
 */

export interface ServerEvent {
  readonly type: string;
  readonly data: string;
}

/** A line longer than this is not ours; the reader gives up instead of collecting it. */
export const LINE_CHARACTERS_MAX = 1 << 20;

export class LineTooLong extends Error {}

export class EventParser {
  private rest = "";
  private started = false;
  private data: string[] = [];
  private type = "";

  /** The events that `chunk` completes. */
  feed(chunk: string): ServerEvent[] {
    if (chunk === "") return [];
    let pending = this.rest + chunk;
    if (!this.started) pending = pending.replace(/^\uFEFF/, "");
    this.started = true;
    // A carriage return at the very end may be half of a line's end: it waits for the next chunk.
    const whole = pending.endsWith("\r") ? pending.length - 1 : pending.length;
    const lines = pending.slice(0, whole).split(/\r\n|\n|\r/);
    this.rest = (lines.pop() ?? "") + pending.slice(whole);
    if (this.rest.length > LINE_CHARACTERS_MAX) throw new LineTooLong(`a line of more than ${LINE_CHARACTERS_MAX} characters`);
    return lines.flatMap((line) => this.line(line) ?? []);
  }

  private line(line: string): ServerEvent | null {
    if (line === "") return this.dispatch();
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") this.data.push(value);
    if (field === "event") this.type = value;
    return null;
  }

  private dispatch(): ServerEvent | null {
    const event = this.data.length > 0 ? { type: this.type || "message", data: this.data.join("\n") } : null;
    this.data = [];
    this.type = "";
    return event;
  }
}
