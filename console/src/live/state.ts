/**
 * What the page knows, and how each piece of news changes it. Pure: no clock, no network.
 *
 * Rule: what was known stays on the page when its source falls silent, marked as old; it never turns into a zero.
 */

import type { Problem } from "../api/client";
import type { Balance, Link, LiveMetrics, Upstreams } from "../api/messages";
import { EMPTY, type History, withTold } from "./history";

export type Connection =
  | { readonly kind: "connecting" }
  | { readonly kind: "live" }
  | { readonly kind: "reconnecting"; readonly failures: number; readonly reason: string };

/** The last good answer, and why there is none since; both null before the first. */
export interface Asked<T> {
  readonly value: T | null;
  readonly problem: string | null;
}

export interface LiveState {
  readonly connection: Connection;
  readonly metrics: LiveMetrics | null;
  readonly history: History;
  readonly balance: Asked<Balance>;
  /** Since when every answer tells the same figures. */
  readonly balanceSinceMs: number;
  /** What was stored when anybody last knew it. */
  readonly storedLast: Stored | null;
  readonly upstreams: Asked<Upstreams>;
  readonly links: ReadonlyMap<string, Link>;
}

export interface Stored {
  readonly stored: number;
  readonly readMs: number;
}

export type News =
  | { readonly kind: "metrics"; readonly metrics: LiveMetrics }
  | { readonly kind: "lost"; readonly problem: Problem; readonly failures: number }
  | { readonly kind: "balance"; readonly asked: Balance | Problem }
  | { readonly kind: "upstreams"; readonly asked: Upstreams | Problem }
  | { readonly kind: "links"; readonly links: readonly Link[] };

export const LINKS_KEPT = 1_000;

export const INITIAL: LiveState = {
  connection: { kind: "connecting" },
  metrics: null,
  history: EMPTY,
  balance: { value: null, problem: null },
  balanceSinceMs: 0,
  storedLast: null,
  upstreams: { value: null, problem: null },
  links: new Map(),
};

export function reduce(state: LiveState, news: News): LiveState {
  switch (news.kind) {
    case "metrics": {
      const { timeMs, eventsPerSecond, completeMs } = news.metrics;
      const history = withTold(state.history, timeMs, eventsPerSecond, standStill(news.metrics) ? (completeMs ?? 0) : timeMs);
      const storedLast = news.metrics.books ?? state.storedLast;
      return { ...state, connection: { kind: "live" }, metrics: news.metrics, history, storedLast };
    }
    case "lost":
      return { ...state, connection: { kind: "reconnecting", failures: news.failures, reason: news.problem.message } };
    case "balance":
      return news.asked instanceof Error ? { ...state, balance: asked(state.balance, news.asked) } : withBalance(state, news.asked);
    case "upstreams":
      return { ...state, upstreams: asked(state.upstreams, news.asked) };
    case "links":
      return { ...state, links: withLinks(state.links, news.links) };
  }
}

function asked<T extends object>(before: Asked<T>, now: T | Problem): Asked<T> {
  return now instanceof Error ? { value: before.value, problem: now.message } : { value: now, problem: null };
}

function withBalance(state: LiveState, balance: Balance): LiveState {
  const balanceSinceMs = sameFigures(state.balance.value, balance) ? state.balanceSinceMs : balance.timeMs;
  return { ...state, balance: { value: balance, problem: null }, balanceSinceMs, storedLast: storedIn(balance) };
}

function sameFigures(before: Balance | null, now: Balance): boolean {
  return JSON.stringify({ ...before, timeMs: 0 }) === JSON.stringify({ ...now, timeMs: 0 });
}

function storedIn({ stored, timeMs }: Balance): Stored {
  return { stored, readMs: timeMs };
}

/** The newest are kept: a Map remembers the order in which its keys came. */
function withLinks(before: ReadonlyMap<string, Link>, added: readonly Link[]): ReadonlyMap<string, Link> {
  const all = new Map([...before, ...added.map((link) => [link.id, link] as const)]);
  return new Map([...all].slice(-LINKS_KEPT));
}

/** The counters look for the end of the log once a second; a look that is older means that they do not move. */
export const STILL_MS = 3_000;

/** Whether the counters do not move, as when the log is away: what they say of the time since is not known. */
export function standStill({ timeMs, completeMs }: LiveMetrics): boolean {
  return completeMs === null || timeMs - completeMs > STILL_MS;
}

export type Books =
  | { readonly kind: "unknown" }
  /** Once known, but nobody can say what it is now. */
  | ({ readonly kind: "old" } & Stored)
  | ({ readonly kind: "balanced" } & Stored)
  | ({ readonly kind: "off"; readonly difference: number } & Stored);

/**
 * The verdict on the books: every source that speaks must say 0, one must speak, and a silent source is not a 0. Who could not be asked
 * just now takes the good verdict back: what the stream tells may be some seconds old, and nothing is green that is not known now.
 */
export function books({ connection, metrics, balance, storedLast }: LiveState): Books {
  const told = connection.kind === "live" && metrics !== null ? metrics.books : null;
  const asked = balance.problem === null ? balance.value : null;
  const known = told ?? (asked && storedIn(asked));
  if (known === null) return storedLast === null ? { kind: "unknown" } : { kind: "old", ...storedLast };
  const { stored, readMs } = known;
  const difference = told?.difference || asked?.difference || 0;
  if (difference !== 0) return { kind: "off", stored, readMs, difference };
  return { kind: balance.problem === null ? "balanced" : "old", stored, readMs };
}

/** Ids of platform items among the top that no link is known for; other items are named by their own text. */
export function unknownLinks({ metrics, links }: LiveState): string[] {
  const ids = (metrics?.topItems ?? []).map(({ item }) => item).filter((item) => /^\d{1,19}$/.test(item) && !links.has(item));
  return [...new Set(ids)];
}
