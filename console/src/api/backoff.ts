/** Waits between tries: they double, and half of each is drawn, so that many pages do not come back at the same moment. */

export const FIRST_MS = 500;
export const LONGEST_MS = 8_000;
export const ASKED_MS_MAX = 30_000;

/** Wait before try number `attempt` (from 1), at least what the server asked for, within reason; `draw` is in [0, 1). */
export function waitMs(attempt: number, askedMs: number, draw: number): number {
  const longest = Math.min(LONGEST_MS, FIRST_MS * 2 ** (attempt - 1));
  return Math.max(longest / 2 + (longest / 2) * draw, Math.min(askedMs, ASKED_MS_MAX));
}

/** Resolves after `ms`, or at once when `signal` aborts. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
