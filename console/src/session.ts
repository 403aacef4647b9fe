/**
 * The key that this tab works with. It arrives in the address's fragment (`/#key=gsk_…`, which no browser sends to a server) or by
 * hand, and lives in the tab's session storage: it ends with the tab and never stays in the address bar or the history.
 */

const STORED_AS = "groundswell.key";

/** Takes the key out of the address, if there is one; returns the tab's key. */
export function currentKey(): string | null {
  const arrived = keyIn(location.hash);
  if (arrived !== null) {
    keep(arrived);
    history.replaceState(null, "", location.pathname + location.search);
  }
  return sessionStorage.getItem(STORED_AS);
}

export function keep(key: string): void {
  sessionStorage.setItem(STORED_AS, key);
}

export function forget(): void {
  sessionStorage.removeItem(STORED_AS);
}

/** The key in a fragment such as `#key=gsk_abc`. */
export function keyIn(fragment: string): string | null {
  return new URLSearchParams(fragment.replace(/^#/, "")).get("key")?.trim() || null;
}
