/** Views a second: the number, and the curve behind it. */

import { useCallback, useMemo, useState } from "preact/hooks";
import type { LiveMetrics } from "../api/messages";
import { count, timeOfDay, windowLength } from "../format";
import { type History, type Peak, peak, SECONDS_SHOWN_MIN } from "../live/history";
import { standStill } from "../live/state";
import { Chart } from "./chart";
import { NumberText } from "./number";

export interface ViewsProps {
  readonly metrics: LiveMetrics | null;
  readonly history: History;
}

export function Views({ metrics, history }: ViewsProps) {
  const [pointed, setPointed] = useState<Peak | null>(null);
  const highest = useMemo(() => peak(history), [history]);
  const onPoint = useCallback((point: Peak | null) => setPointed(point), []);
  const shownS = windowLength(Math.max(history.seconds.length, SECONDS_SHOWN_MIN));
  return (
    <section class="card views" aria-labelledby="views-title">
      <div class="views-head">
        <div>
          <h2 id="views-title">Views a second</h2>
          <div class="hero">
            <NumberText id="events-per-second" value={metrics === null || standStill(metrics) ? null : metrics.events} />
          </div>
        </div>
        <p class="readout">{readout(pointed, highest, shownS)}</p>
      </div>
      <Chart history={history} label={`Views in each second of the last ${shownS}. ${readout(null, highest, shownS)}`} onPoint={onPoint} />
    </section>
  );
}

function readout(pointed: Peak | null, highest: Peak | null, shown: string): string {
  if (pointed !== null) return `${count(pointed.events)} at ${timeOfDay(pointed.second * 1000)}`;
  if (highest === null) return `Nothing in the last ${shown}`;
  return `Peak of the last ${shown}: ${count(highest.events)} at ${timeOfDay(highest.second * 1000)}`;
}
