/** Joins the state to its sources for as long as a component is on the page. */

import { useEffect, useReducer } from "preact/hooks";
import { Client, Problem } from "../api/client";
import { balance, link, links, upstreams } from "../api/messages";
import { poll } from "../api/poll";
import { watch } from "../api/watch";
import { INITIAL, type LiveState, type News, reduce, unknownLinks } from "./state";

const LINKS_ASKED = "/v1/links?pageSize=100";

/** The state of the platform as `apiKey` may see it; `onRefused` is told when the key is not accepted. */
export function useLive(apiKey: string, onRefused: (sentence: string) => void): LiveState {
  const [state, tell] = useReducer(reduce, INITIAL);
  useEffect(() => {
    const leaving = new AbortController();
    const client = new Client(apiKey);
    watchStream(client, tell, onRefused, leaving.signal);
    pollTables(client, tell, leaving.signal);
    return () => leaving.abort();
  }, [apiKey, onRefused]);
  useLinksOfTopItems(apiKey, state, tell);
  return state;
}

type Tell = (news: News) => void;

function watchStream(client: Client, tell: Tell, onRefused: (sentence: string) => void, signal: AbortSignal): void {
  watch(
    client,
    {
      metrics: (metrics) => tell({ kind: "metrics", metrics }),
      lost: (problem, failures) => tell({ kind: "lost", problem, failures }),
    },
    signal,
  ).catch((problem: Problem) => onRefused(`This key was not accepted: ${problem.message}`));
}

function pollTables(client: Client, tell: Tell, signal: AbortSignal): void {
  const asBalance = (asked: ReturnType<typeof balance> | Problem) => tell({ kind: "balance", asked });
  const asUpstreams = (asked: ReturnType<typeof upstreams> | Problem) => tell({ kind: "upstreams", asked });
  void poll(client, { path: "/v1/analytics/balance", read: balance, answered: asBalance, failed: asBalance }, signal);
  void poll(client, { path: "/v1/edge/upstreams", read: upstreams, answered: asUpstreams, failed: asUpstreams }, signal);
}

/**
 * Names for the top items: first the newest links in one call, then each link that is still unknown, once. An item that is no link, or
 * that this key may not read, keeps its id.
 */
function useLinksOfTopItems(apiKey: string, state: LiveState, tell: Tell): void {
  useEffect(() => {
    const leaving = new AbortController();
    new Client(apiKey).get(LINKS_ASKED, leaving.signal).then(
      (json) => tell({ kind: "links", links: links(json) }),
      () => undefined, // names are a courtesy: the ids stand there without them
    );
    return () => leaving.abort();
  }, [apiKey, tell]);

  const unknown = unknownLinks(state).join(" ");
  useEffect(() => {
    if (unknown === "") return;
    const leaving = new AbortController();
    const client = new Client(apiKey);
    for (const id of unknown.split(" ")) {
      client.get(`/v1/links/${id}`, leaving.signal).then(
        (json) => tell({ kind: "links", links: [link(json)] }),
        (reason: unknown) => {
          if (reason instanceof Problem) tell({ kind: "links", links: [{ id, code: "", shortUrl: "", destination: "", title: "" }] });
        },
      );
    }
    return () => leaving.abort();
  }, [apiKey, unknown, tell]);
}
