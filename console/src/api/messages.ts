/**
 * The messages that this page reads, as far as it reads them. Their meaning is written in
 * protos/groundswell/api/{analytics,gateway,links}/v1; the names here are the same.
 */

import { fields, integer, list, text, timeMs } from "./wire";

/** How a process, as the supervisor sees it, or a module, as the gateway's health check sees it, is doing. */
export type Health = "good" | "waiting" | "bad";

export interface LiveMetrics {
  readonly timeMs: number;
  /** Events in each of the last 60 whole seconds, oldest first. */
  readonly eventsPerSecond: readonly number[];
  readonly events: number;
  readonly users: number;
  readonly topItems: readonly TopItem[];
  readonly freshnessMs: number;
  /** All that was in the log then is counted; null until that was so once. */
  readonly completeMs: number | null;
  readonly windowEvents: number;
  readonly windowBots: number;
  readonly windowSeconds: number;
  /** What the books said at `readMs`; null while they are not known. */
  readonly books: { readonly difference: number; readonly stored: number; readonly readMs: number } | null;
}

export interface TopItem {
  readonly item: string;
  readonly kind: string;
  readonly events: number;
}

export interface Balance {
  readonly accepted: number;
  readonly stored: number;
  readonly parked: number;
  readonly difference: number;
  readonly rollupSecond: number;
  readonly rollupMinute: number;
  readonly rollupHour: number;
  readonly rollupDeviceHour: number;
  readonly rollupItemMinute: number;
  readonly rollupItemHour: number;
  readonly totals: number;
  readonly duplicates: number;
  /** When it was read. */
  readonly timeMs: number;
}

export interface Process {
  readonly name: string;
  readonly state: string;
  readonly health: Health;
  readonly pid: number;
  readonly restarts: number;
  readonly residentBytes: number;
  readonly startTimeMs: number | null;
}

export interface Upstream {
  readonly module: string;
  readonly health: Health;
  readonly latencyMs: number;
}

export interface Upstreams {
  readonly processes: readonly Process[];
  readonly upstreams: readonly Upstream[];
}

export interface Link {
  readonly id: string;
  readonly code: string;
  readonly shortUrl: string;
  readonly destination: string;
  readonly title: string;
}

export function liveMetrics(json: unknown): LiveMetrics {
  const from = fields(json, "metrics");
  const readMs = timeMs(from, "balanceTime");
  return {
    timeMs: timeMs(from, "time") ?? 0,
    eventsPerSecond: list(from, "eventsPerSecond", (count, path) => integer({ [path]: count }, path)),
    events: integer(from, "events"),
    users: integer(from, "users"),
    topItems: list(from, "topItems", topItem),
    freshnessMs: integer(from, "freshnessMs"),
    completeMs: timeMs(from, "completeTime"),
    windowEvents: integer(from, "windowEvents"),
    windowBots: integer(from, "windowBots"),
    windowSeconds: integer(from, "windowSeconds"),
    books: readMs === null ? null : { difference: integer(from, "difference"), stored: integer(from, "stored"), readMs },
  };
}

function topItem(json: unknown, path: string): TopItem {
  const from = fields(json, path);
  return { item: text(from, "item"), kind: text(from, "kind"), events: integer(from, "events") };
}

export function balance(json: unknown): Balance {
  const from = fields(json, "balance");
  return {
    accepted: integer(from, "accepted"),
    stored: integer(from, "stored"),
    parked: integer(from, "parked"),
    difference: integer(from, "difference"),
    rollupSecond: integer(from, "rollupSecond"),
    rollupMinute: integer(from, "rollupMinute"),
    rollupHour: integer(from, "rollupHour"),
    rollupDeviceHour: integer(from, "rollupDeviceHour"),
    rollupItemMinute: integer(from, "rollupItemMinute"),
    rollupItemHour: integer(from, "rollupItemHour"),
    totals: integer(from, "totals"),
    duplicates: integer(from, "duplicates"),
    timeMs: timeMs(from, "time") ?? 0,
  };
}

export function upstreams(json: unknown): Upstreams {
  const from = fields(json, "upstreams");
  return { processes: list(from, "processes", process), upstreams: list(from, "upstreams", upstream) };
}

const PROCESS_HEALTH: Readonly<Record<string, Health>> = { ready: "good", running: "good", starting: "waiting", "backing-off": "waiting" };

function process(json: unknown, path: string): Process {
  const from = fields(json, path);
  const state = text(from, "state");
  return {
    name: text(from, "name"),
    state,
    health: PROCESS_HEALTH[state] ?? "bad",
    pid: integer(from, "pid"),
    restarts: integer(from, "restarts"),
    residentBytes: integer(from, "residentBytes"),
    startTimeMs: timeMs(from, "startTime"),
  };
}

function upstream(json: unknown, path: string): Upstream {
  const from = fields(json, path);
  return {
    module: text(from, "module"),
    health: text(from, "health") === "SERVING" ? "good" : "bad",
    latencyMs: integer(from, "latencyMs"),
  };
}

export function links(json: unknown): Link[] {
  return list(fields(json, "links"), "links", link);
}

export function link(json: unknown, path = "link"): Link {
  const from = fields(json, path);
  return {
    id: text(from, "name").replace(/^links\//, ""),
    code: text(from, "code"),
    shortUrl: text(from, "shortUrl"),
    destination: text(from, "destination"),
    title: text(from, "title"),
  };
}
