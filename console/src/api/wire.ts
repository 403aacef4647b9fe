/**
 * Reading JSON as protobuf writes it: a field at its default may be absent, 64-bit integers are strings, times are RFC 3339.
 *
 * What does not fit raises `WireError` with the field's path, so that a page of another version says so instead of showing NaN.
 * Counts become numbers: they are exact up to 2^53, and a platform that takes a million events a second gets there in 285 years.
 * Ids use all their bits, so they stay text.
 */

export class WireError extends Error {}

export type Fields = Readonly<Record<string, unknown>>;

export function fields(value: unknown, path: string): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new WireError(`${path} is not an object`);
  return value as Fields;
}

export function integer(from: Fields, name: string): number {
  const value = from[name] ?? 0;
  const number = typeof value === "string" && value !== "" ? Number(value) : value;
  if (!Number.isSafeInteger(number)) throw new WireError(`${name} is not an integer: ${String(value)}`);
  return number as number;
}

export function text(from: Fields, name: string): string {
  const value = from[name] ?? "";
  if (typeof value !== "string") throw new WireError(`${name} is not text`);
  return value;
}

/** Milliseconds since 1970, or null when the time is not set. */
export function timeMs(from: Fields, name: string): number | null {
  const written = text(from, name);
  if (written === "") return null;
  const value = Date.parse(written);
  if (Number.isNaN(value)) throw new WireError(`${name} is not a time: ${written}`);
  return value;
}

export function list<T>(from: Fields, name: string, read: (item: unknown, path: string) => T): T[] {
  const value = from[name] ?? [];
  if (!Array.isArray(value)) throw new WireError(`${name} is not a list`);
  return value.map((item, index) => read(item, `${name}[${index}]`));
}
