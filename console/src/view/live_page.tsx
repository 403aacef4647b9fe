/** The live page: what the platform counts, while it counts it. */

import { useLive } from "../live/use_live";
import { books } from "../live/state";
import { BooksAlarm, BooksCard } from "./books";
import { Figures } from "./figures";
import { Header } from "./header";
import { Machines } from "./machines";
import { TopLinks } from "./top_links";
import { Views } from "./views";

export interface LivePageProps {
  readonly apiKey: string;
  readonly onLeave: (sentence: string | null) => void;
}

export function LivePage({ apiKey, onLeave }: LivePageProps) {
  const state = useLive(apiKey, onLeave);
  const verdict = books(state);
  const old = state.connection.kind === "reconnecting" ? "old" : "";
  return (
    <div class="page">
      <Header connection={state.connection} newestMs={state.metrics?.timeMs ?? null} onLeave={() => onLeave(null)} />
      <main class={old} aria-busy={state.metrics === null}>
        <BooksAlarm verdict={verdict} />
        <Views metrics={state.metrics} history={state.history} />
        <Figures metrics={state.metrics} verdict={verdict} />
        <div class="columns">
          <TopLinks items={state.metrics?.topItems ?? null} links={state.links} />
          <div class="stack">
            <Machines asked={state.upstreams} nowMs={state.metrics?.timeMs ?? null} />
            <BooksCard asked={state.balance} sinceMs={state.balanceSinceMs} />
          </div>
        </div>
      </main>
    </div>
  );
}
