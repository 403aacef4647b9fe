/** Asks for an API key. */

import { useState } from "preact/hooks";
import { Mark } from "./mark";

export interface SignInProps {
  /** Why the last key was not accepted. */
  readonly refusal: string | null;
  readonly onKey: (key: string) => void;
}

export function SignIn({ refusal, onKey }: SignInProps) {
  const [typed, setTyped] = useState("");
  const submit = (event: Event) => {
    event.preventDefault();
    if (typed.trim() !== "") onKey(typed.trim());
  };
  return (
    <main class="sign-in">
      <form class="card sign-in-card" onSubmit={submit}>
        <h1 class="brand brand-large">
          <Mark /> Groundswell
        </h1>
        <p>
          Paste an API key that may read analytics. <code>make up</code> writes the first one to <code>.groundswell/credentials.json</code>.
        </p>
        <label for="key">API key</label>
        <input
          id="key"
          type="password"
          autocomplete="off"
          spellcheck={false}
          value={typed}
          aria-describedby={refusal === null ? undefined : "refusal"}
          onInput={(event) => setTyped(event.currentTarget.value)}
        />
        <p class="refusal" id="refusal" role="alert" data-testid="refusal">
          {refusal}
        </p>
        <button type="submit" class="button-primary">
          Open the live page
        </button>
      </form>
    </main>
  );
}
