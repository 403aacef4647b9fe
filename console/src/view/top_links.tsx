/** The busiest items of the last minute, with bars. Rows keep their places, so the list never jumps while numbers change. */

import type { Link, TopItem } from "../api/messages";
import { count, withoutScheme } from "../format";

export const ROWS = 8;

export interface TopLinksProps {
  /** null before the first numbers. */
  readonly items: readonly TopItem[] | null;
  readonly links: ReadonlyMap<string, Link>;
}

export function TopLinks({ items, links }: TopLinksProps) {
  const shown = (items ?? []).slice(0, ROWS);
  const most = shown[0]?.events ?? 0;
  return (
    <section class="card" aria-labelledby="top-title">
      <div class="card-head">
        <h2 id="top-title">Top links</h2>
        <p class="note">views in the last minute</p>
      </div>
      <ol class="top">
        {shown.map((item, index) => (
          <Row key={index} place={index + 1} item={item} link={links.get(item.item)} most={most} />
        ))}
        {items !== null && shown.length === 0 && (
          <li class="empty">
            <strong>Nothing was opened in the last minute.</strong> Open a short link and it appears here within a second.
          </li>
        )}
      </ol>
    </section>
  );
}

interface RowProps {
  readonly place: number;
  readonly item: TopItem;
  readonly link: Link | undefined;
  readonly most: number;
}

function Row({ place, item, link, most }: RowProps) {
  const name = link?.code || item.item;
  return (
    <li class="top-row" data-testid={`top-item-${place}`} data-item={item.item} data-value={item.events}>
      <span class="top-place" aria-hidden="true">
        {place}
      </span>
      <span class="top-name" title={link?.shortUrl || item.item}>
        <span class="top-code">{link?.code ? `/${name}` : name}</span>
        <span class="top-where">{link?.destination ? link.title || withoutScheme(link.destination) : item.kind}</span>
      </span>
      <span class="top-count">{count(item.events)}</span>
      <progress class="top-bar" max={Math.max(most, 1)} value={item.events} aria-hidden="true" />
    </li>
  );
}
