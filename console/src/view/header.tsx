/** Name, state of the connection, theme, and the way out. */

import { useState } from "preact/hooks";
import { timeOfDay } from "../format";
import type { Connection } from "../live/state";
import { THEMES, type Theme, choose, chosenTheme } from "../theme";
import { Mark } from "./mark";

export interface HeaderProps {
  readonly connection: Connection;
  /** Server time of the newest numbers on the page. */
  readonly newestMs: number | null;
  readonly onLeave: () => void;
}

export function Header({ connection, newestMs, onLeave }: HeaderProps) {
  return (
    <header class="header">
      <h1 class="brand">
        <Mark /> Groundswell
      </h1>
      <ConnectionState connection={connection} newestMs={newestMs} />
      <div class="header-tools">
        <ThemeSwitch />
        <button type="button" class="button-quiet" onClick={onLeave}>
          Sign out
        </button>
      </div>
    </header>
  );
}

function ConnectionState({ connection, newestMs }: Omit<HeaderProps, "onLeave">) {
  const names = { connecting: "Connecting", live: "Live", reconnecting: "Reconnecting" };
  return (
    <div class={`connection connection-${connection.kind}`} data-testid="connection" data-state={connection.kind}>
      <span class="dot" aria-hidden="true" />
      <span role="status">{names[connection.kind]}</span>
      {connection.kind === "reconnecting" && (
        <span class="connection-why" data-testid="connection-reason">
          {connection.reason} {newestMs !== null && `Numbers are from ${timeOfDay(newestMs)}.`}
        </span>
      )}
    </div>
  );
}

const THEME_NAMES: Readonly<Record<Theme, string>> = { system: "Auto", light: "Light", dark: "Dark" };

function ThemeSwitch() {
  const [theme, setTheme] = useState(chosenTheme);
  const pick = (next: Theme) => {
    choose(next);
    setTheme(next);
  };
  return (
    <fieldset class="switch">
      <legend class="unseen">Theme</legend>
      {THEMES.map((each) => (
        <label key={each} data-testid={`theme-${each}`}>
          <input type="radio" name="theme" checked={each === theme} onChange={() => pick(each)} />
          <span>{THEME_NAMES[each]}</span>
        </label>
      ))}
    </fieldset>
  );
}
