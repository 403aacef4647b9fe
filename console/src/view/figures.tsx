/** The five figures under the curve. */

import type { ComponentChildren } from "preact";
import type { LiveMetrics } from "../api/messages";
import { count, signed, span, timeOfDay, windowLength } from "../format";
import { type Books, standStill } from "../live/state";
import { NumberText } from "./number";

/** What the platform promises: an event is on this page within a second. */
const FRESH_MS = 1_000;

export interface FiguresProps {
  readonly metrics: LiveMetrics | null;
  readonly verdict: Books;
}

export function Figures({ metrics, verdict }: FiguresProps) {
  const still = metrics !== null && standStill(metrics);
  const quiet = metrics === null || (metrics.windowEvents === 0 && !still);
  const freshnessMs = quiet ? null : metrics.freshnessMs;
  return (
    <section class="figures" aria-label="Figures">
      <Figure title="People a second" note="distinct, in the last second">
        <NumberText id="users-per-second" value={metrics === null || still ? null : metrics.users} />
      </Figure>
      <Figure title="Freshness" note={still ? stillNote(metrics) : freshnessNote(freshnessMs)} mood={still || (freshnessMs ?? 0) > FRESH_MS ? "waiting" : undefined}>
        <NumberText id="freshness-ms" value={freshnessMs} unit="ms" />
      </Figure>
      <Figure title={`Last ${windowLength(metrics?.windowSeconds || 60)}`} note={botsNote(metrics)}>
        <NumberText id="window-events" value={metrics?.windowEvents ?? null} />
      </Figure>
      <Figure title="Stored" note={storedNote(verdict, metrics?.timeMs ?? null)}>
        <NumberText id="stored" value={verdict.kind === "unknown" ? null : verdict.stored} />
      </Figure>
      <Difference verdict={verdict} />
    </section>
  );
}

function Difference({ verdict }: Pick<FiguresProps, "verdict">) {
  const { value, mood, note } = {
    unknown: { value: null, mood: undefined, note: "not known yet" },
    old: { value: null, mood: "waiting" as const, note: "not known now: the store is away" },
    balanced: { value: 0, mood: "good" as const, note: "the books agree" },
    off: { value: verdict.kind === "off" ? verdict.difference : 0, mood: "bad" as const, note: "accepted less stored" },
  }[verdict.kind];
  return (
    <Figure title="Difference" note={note} mood={mood}>
      <NumberText id="difference" value={value} write={signed} />
    </Figure>
  );
}

interface FigureProps {
  readonly title: string;
  readonly note: string;
  readonly mood?: "good" | "waiting" | "bad" | undefined;
  readonly children: ComponentChildren;
}

function Figure({ title, note, mood, children }: FigureProps) {
  return (
    <div class={`card figure ${mood === undefined ? "" : `mood-${mood}`}`}>
      <h2>{title}</h2>
      <div class="figure-value">{children}</div>
      <p class="note">{note}</p>
    </div>
  );
}

function freshnessNote(ms: number | null): string {
  if (ms === null) return "no events yet";
  return ms > FRESH_MS ? "behind: counted late" : "from event to this page";
}

function stillNote({ completeMs }: LiveMetrics): string {
  return completeMs === null ? "the counters are not complete yet" : `the counters stand still since ${timeOfDay(completeMs)}`;
}

/** The books are read once a second, and are behind the counters while much comes: so the figure says how old it is. */
function storedNote(verdict: Books, nowMs: number | null): string {
  if (verdict.kind === "unknown") return "since the beginning";
  if (verdict.kind === "old") return `when it was last known, at ${timeOfDay(verdict.readMs)}`;
  const ageMs = nowMs === null ? -1 : nowMs - verdict.readMs;
  return `since the beginning, read ${ageMs < 0 ? `at ${timeOfDay(verdict.readMs)}` : `${span(ageMs)} ago`}`;
}

function botsNote(metrics: LiveMetrics | null): string {
  return metrics === null ? "views" : `views, ${count(metrics.windowBots)} by bots`;
}
