/**
 * Events in each second of the last five minutes, put together from messages that each tell the last 60 seconds.
 *
 * A later message wins, because late events still raise a second's count. Seconds that no message told (the page was away for more
 * than a minute), or in which the counters stood still, are null: the chart shows a gap, never a zero that nobody counted.
 */

export const SECONDS_KEPT = 300;
export const SECONDS_SHOWN_MIN = 60;

export interface History {
  /** Seconds since 1970, one after the other. */
  readonly seconds: readonly number[];
  readonly events: readonly (number | null)[];
}

export const EMPTY: History = { seconds: [], events: [] };

/** `told` are the counts of the whole seconds before `timeMs`, oldest first; those that end after `knownMs` are not known yet. */
export function withTold(history: History, timeMs: number, told: readonly number[], knownMs: number): History {
  const end = Math.floor(timeMs / 1000);
  const unknown = Math.floor(knownMs / 1000);
  const start = end - told.length;
  const first = Math.max(Math.min(history.seconds[0] ?? start, start), end - SECONDS_KEPT);
  const known = history.seconds[0] ?? start;
  const seconds: number[] = [];
  const events: (number | null)[] = [];
  for (let second = first; second < end; second++) {
    seconds.push(second);
    events.push(second >= unknown ? null : second >= start ? (told[second - start] ?? null) : (history.events[second - known] ?? null));
  }
  return { seconds, events };
}

export interface Peak {
  readonly second: number;
  readonly events: number;
}

/** The busiest second; null when nothing was counted. */
export function peak(history: History): Peak | null {
  let best: Peak | null = null;
  history.events.forEach((events, index) => {
    if (events !== null && events > (best?.events ?? 0)) best = { second: history.seconds[index] ?? 0, events };
  });
  return best;
}
