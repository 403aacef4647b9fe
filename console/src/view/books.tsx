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

export function BooksCard({ asked }: { readonly asked: Asked<Balance> }) {
  const { value, problem } = asked;
  return (
    <section class={`card ${problem === null ? "" : "old"}`} aria-labelledby="books-title">
      <div class="card-head">
        <h2 id="books-title">Books</h2>
        <p class="note">{problem ?? (value === null ? "not read yet" : "each counted in a table of its own")}</p>
      </div>
      <dl class="books">
        <Entry title="Accepted by the log" id="accepted" value={value?.accepted ?? null} />
        <Entry title="Stored" id="books-stored" value={value?.stored ?? null} />
        <Entry title="Set aside" id="parked" value={value?.parked ?? null} />
        <Entry title="By second" id="rollup-second" value={value?.rollupSecond ?? null} sameAs={value?.stored} />
        <Entry title="By minute" id="rollup-minute" value={value?.rollupMinute ?? null} sameAs={value?.stored} />
        <Entry title="By hour" id="rollup-hour" value={value?.rollupHour ?? null} sameAs={value?.stored} />
        <Entry title="Items' totals" id="totals" value={value?.totals ?? null} sameAs={value?.stored} />
        <Entry title="Repeats refused" id="duplicates" value={value?.duplicates ?? null} />
      </dl>
    </section>
  );
}

interface EntryProps {
  readonly title: string;
  readonly id: string;
  readonly value: number | null;
  /** The sum that this one must equal. */
  readonly sameAs?: number | undefined;
}

function Entry({ title, id, value, sameAs }: EntryProps) {
  const off = value !== null && sameAs !== undefined ? value - sameAs : 0;
  return (
    <div class="entry">
      <dt>{title}</dt>
      <dd>
        {off !== 0 && <span class="state-bad">{signed(off)} </span>}
        <NumberText id={id} value={value} />
      </dd>
    </div>
  );
}
