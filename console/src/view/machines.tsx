/** The processes of this platform and the modules behind the door, with their health. */

import type { Health, Process, Upstream, Upstreams } from "../api/messages";
import { megabytes, span, UNKNOWN } from "../format";
import type { Asked } from "../live/state";

export interface MachinesProps {
  readonly asked: Asked<Upstreams>;
  /** The server's clock, for how long each process has been up. */
  readonly nowMs: number | null;
}

export function Machines({ asked, nowMs }: MachinesProps) {
  const processes = asked.value?.processes ?? [];
  const modules = asked.value?.upstreams ?? [];
  return (
    <section class={`card ${asked.problem === null ? "" : "old"}`} aria-labelledby="machines-title">
      <div class="card-head">
        <h2 id="machines-title">Processes</h2>
        <p class="note">{asked.problem ?? summary(processes)}</p>
      </div>
      {processes.length > 0 && <ProcessTable processes={processes} nowMs={nowMs} />}
      {asked.value !== null && processes.length === 0 && <p class="empty">No supervisor runs here; these are the modules that the gateway sees.</p>}
      {modules.length > 0 && <Modules modules={modules} />}
    </section>
  );
}

function summary(processes: readonly Process[]): string {
  if (processes.length === 0) return "";
  const ready = processes.filter(({ health }) => health === "good").length;
  const bytes = processes.reduce((sum, { residentBytes }) => sum + residentBytes, 0);
  return `${ready} of ${processes.length} ready, ${megabytes(bytes)}`;
}

function ProcessTable({ processes, nowMs }: { readonly processes: readonly Process[]; readonly nowMs: number | null }) {
  return (
    <table class="machines">
      <thead>
        <tr>
          <th scope="col">Name</th>
          <th scope="col">PID</th>
          <th scope="col">Restarts</th>
          <th scope="col">Memory</th>
          <th scope="col" class="wide-only">
            Up
          </th>
        </tr>
      </thead>
      <tbody>
        {processes.map((process) => (
          <ProcessRow key={process.name} process={process} nowMs={nowMs} />
        ))}
      </tbody>
    </table>
  );
}

function ProcessRow({ process, nowMs }: { readonly process: Process; readonly nowMs: number | null }) {
  const { name, state, health, pid, restarts, residentBytes, startTimeMs } = process;
  const up = pid > 0 && startTimeMs !== null && nowMs !== null ? span(nowMs - startTimeMs) : UNKNOWN;
  return (
    <tr data-testid={`process-${name}`} data-state={state} data-pid={pid} data-restarts={restarts}>
      <th scope="row">
        <Dot health={health} /> {name} <span class={health === "good" ? "unseen" : `state state-${health}`}>{state}</span>
      </th>
      <td>{pid > 0 ? pid : UNKNOWN}</td>
      <td class={restarts > 0 ? "state-waiting" : "faint"}>{restarts}</td>
      <td>{megabytes(residentBytes)}</td>
      <td class="wide-only">{up}</td>
    </tr>
  );
}

function Modules({ modules }: { readonly modules: readonly Upstream[] }) {
  return (
    <ul class="modules" aria-label="Modules">
      {modules.map(({ module, health, latencyMs }) => (
        <li key={module} data-testid={`module-${module}`}>
          <Dot health={health} /> {module}
          <span class={health === "good" ? "faint" : "state-bad"}>{health === "good" ? `${latencyMs}\u202fms` : "away"}</span>
        </li>
      ))}
    </ul>
  );
}

function Dot({ health }: { readonly health: Health }) {
  return <span class={`dot dot-${health}`} aria-hidden="true" />;
}
