/** A GET again and again, one at a time, for what changes slowly enough to be asked for. */

import { pause } from "./backoff";
import { type Client, LATE, Problem } from "./client";
import { WireError } from "./wire";

export const EVERY_MS = 2_000;
/** An answer that takes longer is given up, so that a hanging gateway does not stop the page's clock. */
export const ANSWER_MS_MAX = 5_000;

export interface Poll<T> {
  readonly path: string;
  readonly read: (json: unknown) => T;
  readonly answered: (value: T) => void;
  readonly failed: (problem: Problem) => void;
}

/** Returns when `signal` aborts. A refused key is the stream's to report: here it is a failure like any other. */
export async function poll<T>(client: Client, what: Poll<T>, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    try {
      const limit = AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS_MAX)]);
      what.answered(what.read(await client.get(what.path, limit)));
    } catch (error) {
      if (!signal.aborted) what.failed(problemOf(error));
    }
    await pause(EVERY_MS, signal);
  }
}

function problemOf(error: unknown): Problem {
  if (error instanceof Problem) return error;
  if (error instanceof WireError || error instanceof SyntaxError) {
    return new Problem(`The gateway sent what this page cannot read: ${error.message}.`, 0);
  }
  return new Problem(LATE, 0);
}
