/**
 * The live metrics as a stream that mends itself: it comes back after every break, with growing waits, until it is told to stop or
 * the key is refused. A line that is open but silent is a break too; four messages a second are due.
 */

import { pause, waitMs } from "./backoff";
import { type Client, Problem, sentenceOf } from "./client";
import { type LiveMetrics, liveMetrics } from "./messages";
import { EventParser, LineTooLong, type ServerEvent } from "./sse";
import { WireError } from "./wire";

export const SILENCE_MS_MAX = 5_000;

export interface Watcher {
  metrics(metrics: LiveMetrics): void;
  /** The stream broke, and so did `failures - 1` tries before it with nothing in between. */
  lost(problem: Problem, failures: number): void;
}

/** Returns when `signal` aborts; raises the Problem of a refused key. */
export async function watch(client: Client, watcher: Watcher, signal: AbortSignal): Promise<void> {
  let failures = 0;
  const heard = (metrics: LiveMetrics): void => {
    failures = 0;
    watcher.metrics(metrics);
  };
  while (!signal.aborted) {
    const problem = await watchOnce(client, heard, signal);
    if (signal.aborted) return;
    if (problem.refusesKey) throw problem;
    failures += 1;
    watcher.lost(problem, failures);
    await pause(waitMs(failures, problem.retryAfterMs, Math.random()), signal);
  }
}

/** Watches until the stream breaks; returns why. */
async function watchOnce(client: Client, heard: Watcher["metrics"], signal: AbortSignal): Promise<Problem> {
  const silence = new Silence(SILENCE_MS_MAX);
  const either = AbortSignal.any([signal, silence.signal]);
  try {
    const response = await client.open("/v1/metrics:watch", "text/event-stream", either);
    if (response.body === null) return new Problem("The gateway sent an empty answer.", response.status);
    for await (const event of eventsOf(response.body)) {
      silence.heard();
      take(event, heard);
    }
    return new Problem("The gateway closed the stream.", 0);
  } catch (error) {
    return problemOf(error, silence.signal.aborted);
  } finally {
    silence.stop();
  }
}

async function* eventsOf(body: ReadableStream<Uint8Array>): AsyncGenerator<ServerEvent> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  const parser = new EventParser();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield* parser.feed(decoder.decode(value, { stream: true }));
    }
  } finally {
    reader.cancel().catch(() => undefined); // the stream is broken already, and `problemOf` has said why
  }
}

/** A stream that fails after its head can say so only in its body: as an event `error` with the problem's document. */
function take(event: ServerEvent, heard: Watcher["metrics"]): void {
  if (event.type === "error") throw new Problem(sentenceOf(parsed(event.data)) ?? "The stream failed.", 0);
  if (event.type === "message") heard(liveMetrics(parsed(event.data)));
}

function parsed(data: string): unknown {
  try {
    return JSON.parse(data);
  } catch {
    throw new WireError("not JSON");
  }
}

function problemOf(error: unknown, silent: boolean): Problem {
  if (silent) return new Problem(`Nothing came for ${SILENCE_MS_MAX / 1000} s.`, 0);
  if (error instanceof Problem) return error;
  if (error instanceof WireError || error instanceof LineTooLong) return new Problem(`The gateway sent what this page cannot read: ${error.message}.`, 0);
  return new Problem("The connection to the gateway broke.", 0);
}

/** Aborts its signal when nothing was heard for so long. */
class Silence {
  private readonly controller = new AbortController();
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly longestMs: number) {
    this.heard();
  }

  get signal(): AbortSignal {
    return this.controller.signal;
  }

  heard(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.controller.abort(), this.longestMs);
  }

  stop(): void {
    clearTimeout(this.timer);
  }
}
