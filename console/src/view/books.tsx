/** The books in detail: every place that counts must have the same sum. */

import type { Balance } from "../api/messages";
import { count, signed } from "../format";
import type { Asked, Books } from "../live/state";
import { NumberText } from "./number";

/** Shown over everything else when the books are off. */
export function BooksAlarm({ verdict }: { readonly verdict: Books }) {
  if (verdict.kind !== "off") return null;
  const { difference } = verdict;
  const amount = count(Math.abs(difference));
  return (
    <p class="alarm" role="alert" data-testid="alarm">
      <strong>The books are off by {signed(difference)}.</strong>{" "}
      {difference > 0 ? `${amount} accepted events are not in the store.` : `The store holds ${amount} events more than were accepted.`}
    </p>
  );
}

/** So long nothing has changed once all that was on its way must have arrived. */
const QUIET_MS = 10_000;

export interface BooksCardProps {
  readonly asked: Asked<Balance>;
  /** Since when the figures are what they are. */
  readonly sinceMs: number;
}

export function BooksCard({ asked, sinceMs }: BooksCardProps) {
  const { value, problem } = asked;
  const isQuiet = value !== null && value.timeMs - sinceMs >= QUIET_MS;
  const remark = (sum: number | undefined) => (value === null ? null : besideStored((sum ?? 0) - value.stored, isQuiet));
  return (
    <section class={`card books-card ${problem === null ? "" : "old"}`} aria-labelledby="books-title">
      <div class="card-head">
        <h2 id="books-title">Books</h2>
        <p class="note">{problem ?? (value === null ? "not read yet" : "each counted in a table of its own, a moment apart")}</p>
      </div>
      <dl class="books">
        <Entry title="Accepted by the log" id="accepted" value={value?.accepted ?? null} />
        <Entry title="Stored" id="books-stored" value={value?.stored ?? null} remark={besideAccepted(value?.difference ?? 0)} />
        <Entry title="Set aside" id="parked" value={value?.parked ?? null} />
        <Entry title="By second" id="rollup-second" value={value?.rollupSecond ?? null} remark={remark(value?.rollupSecond)} />
        <Entry title="By minute" id="rollup-minute" value={value?.rollupMinute ?? null} remark={remark(value?.rollupMinute)} />
        <Entry title="By hour" id="rollup-hour" value={value?.rollupHour ?? null} remark={remark(value?.rollupHour)} />
        <Entry title="By hour and device" id="rollup-device-hour" value={value?.rollupDeviceHour ?? null} remark={remark(value?.rollupDeviceHour)} />
        <Entry title="Items by minute" id="rollup-item-minute" value={value?.rollupItemMinute ?? null} remark={remark(value?.rollupItemMinute)} />
        <Entry title="Items by hour" id="rollup-item-hour" value={value?.rollupItemHour ?? null} remark={remark(value?.rollupItemHour)} />
        <Entry title="Items' totals" id="totals" value={value?.totals ?? null} remark={remark(value?.totals)} />
        <Entry title="Repeats refused" id="duplicates" value={value?.duplicates ?? null} />
      </dl>
    </section>
  );
}

/** What stands before a figure, and the class that says how serious it is. */
interface Remark {
  readonly words: string;
  readonly mood: "faint" | "state-waiting" | "state-bad";
}

/** The server cuts accepted and stored at the same place of the log: between these two any difference is a fault. */
function besideAccepted(difference: number): Remark | null {
  return difference === 0 ? null : { words: signed(-difference), mood: "state-bad" };
}

/**
 * A sum is read after what is stored, so it may be ahead; it also keeps more days than the raw rows. Neither is a fault. Fewer are
 * on the way, unless nothing moves any more.
 */
function besideStored(off: number, isQuiet: boolean): Remark | null {
  if (off === 0) return null;
  if (off > 0) return { words: `${count(off)} more`, mood: "faint" };
  return isQuiet ? { words: `${count(-off)} missing`, mood: "state-waiting" } : { words: `${count(-off)} to come`, mood: "faint" };
}

interface EntryProps {
  readonly title: string;
  readonly id: string;
  readonly value: number | null;
  readonly remark?: Remark | null;
}

function Entry({ title, id, value, remark = null }: EntryProps) {
  return (
    <div class="entry" data-testid={`entry-${id}`}>
      <dt>{title}</dt>
      <dd>
        {remark !== null && <span class={`remark ${remark.mood}`}>{remark.words} </span>}
        <NumberText id={id} value={value} />
      </dd>
    </div>
  );
}
