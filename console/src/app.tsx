/** The page: a key or the form that asks for one. A refused key leads back to the form, with a sentence. */

import { useCallback, useEffect, useState } from "preact/hooks";
import * as session from "./session";
import { LivePage } from "./view/live_page";
import { SignIn } from "./view/sign_in";

export function App() {
  const [key, setKey] = useState(session.currentKey);
  const [refusal, setRefusal] = useState<string | null>(null);

  useEffect(() => {
    const arrived = () => setKey(session.currentKey());
    addEventListener("hashchange", arrived);
    return () => removeEventListener("hashchange", arrived);
  }, []);
  const leave = useCallback((sentence: string | null) => {
    session.forget();
    setRefusal(sentence);
    setKey(null);
  }, []);
  const enter = (typed: string) => {
    session.keep(typed);
    setRefusal(null);
    setKey(typed);
  };

  return key === null ? <SignIn refusal={refusal} onKey={enter} /> : <LivePage key={key} apiKey={key} onLeave={leave} />;
}
