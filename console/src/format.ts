/** Numbers and times as the page writes them, the same in every locale. */

const COUNT = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const MINUS = "\u2212";
const NARROW_SPACE = "\u202f";

/** What stands where a number is not known yet. */
export const UNKNOWN = "\u2013";

/** 1234567 → `1,234,567`. */
export function count(value: number): string {
  return COUNT.format(value).replace("-", MINUS);
}

/** A difference with its sign: `+12`, `−3`, `0`. */
export function signed(value: number): string {
  return value > 0 ? `+${count(value)}` : count(value);
}

/** Short enough for a chart's axis: 1500 → `1.5k`. */
export function short(value: number): string {
  if (Math.abs(value) < 1_000) return String(value);
  if (Math.abs(value) < 1_000_000) return `${trimmed(value / 1_000)}k`;
  return `${trimmed(value / 1_000_000)}M`;
}

function trimmed(value: number): string {
  return String(Math.round(value * 100) / 100);
}

/** Memory in decimal megabytes; below one, `<1 MB`. */
export function megabytes(bytes: number): string {
  if (bytes <= 0) return UNKNOWN;
  const value = bytes / 1_000_000;
  return value < 1 ? `<1${NARROW_SPACE}MB` : `${count(value)}${NARROW_SPACE}MB`;
}

/** The two largest units of a span: `42 s`, `3 m 12 s`, `5 h 4 m`, `12 d 3 h`. */
export function span(ms: number): string {
  const s = Math.max(0, Math.floor(ms / 1000));
  const parts: [number, string][] = [
    [Math.floor(s / 86_400), "d"],
    [Math.floor(s / 3_600) % 24, "h"],
    [Math.floor(s / 60) % 60, "m"],
    [s % 60, "s"],
  ];
  const first = parts.findIndex(([amount]) => amount > 0);
  if (first < 0) return `0${NARROW_SPACE}s`;
  return parts
    .slice(first, first + 2)
    .map(([amount, unit]) => `${amount}${NARROW_SPACE}${unit}`)
    .join(" ");
}

/** A window's length in words: `60 s`, `5 min`, `1 h`. */
export function windowLength(seconds: number): string {
  if (seconds >= 7_200 || seconds === 3_600) return `${trimmed(seconds / 3_600)}${NARROW_SPACE}h`;
  return seconds > 90 ? `${trimmed(seconds / 60)}${NARROW_SPACE}min` : `${seconds}${NARROW_SPACE}s`;
}

/** Local time of day, `14:03:09`. */
export function timeOfDay(ms: number): string {
  const time = new Date(ms);
  return [time.getHours(), time.getMinutes(), time.getSeconds()].map((part) => String(part).padStart(2, "0")).join(":");
}

/** A destination without what all of them share: `example.org/launch`. */
export function withoutScheme(url: string): string {
  return url.replace(/^https?:\/\/(www\.)?/, "").replace(/\/$/, "");
}
