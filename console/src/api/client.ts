/**
 * Calls to the gateway that served this page. Every failure is a `Problem` whose message is a sentence for the reader.
 */

export class Problem extends Error {
  constructor(
    message: string,
    /** HTTP status; 0 when no answer came. */
    readonly status: number,
    /** How long the gateway asks to be left alone. */
    readonly retryAfterMs = 0,
  ) {
    super(message);
  }

  get refusesKey(): boolean {
    return this.status === 401;
  }
}

/** Said when nothing came within a limit, whoever set it. */
export const LATE = "No answer came in time.";
const LATE_STATUS = 504;

export class Client {
  constructor(private readonly key: string) {}

  /** The JSON of a GET. */
  async get(path: string, signal: AbortSignal): Promise<unknown> {
    const response = await this.open(path, "application/json", signal);
    return response.json();
  }

  /** An answer whose head has come and is good; its body is the caller's to read. */
  async open(path: string, accept: string, signal: AbortSignal): Promise<Response> {
    const response = await this.fetch(path, accept, signal);
    if (!response.ok) throw await problemOf(response);
    return response;
  }

  private async fetch(path: string, accept: string, signal: AbortSignal): Promise<Response> {
    try {
      return await fetch(path, { headers: { authorization: `Bearer ${this.key}`, accept }, cache: "no-store", signal });
    } catch (cause) {
      if (signal.aborted) throw cause;
      throw new Problem("The gateway does not answer.", 0);
    }
  }
}

/** The sentence of an RFC 9457 document: its detail, if that is one; a library's bare words (`Deadline Exceeded`) are not. */
export function sentenceOf(document: unknown): string | null {
  if (typeof document !== "object" || document === null) return null;
  const { detail, title, status } = document as { detail?: unknown; title?: unknown; status?: unknown };
  if (typeof detail === "string" && /[.!?]$/.test(detail)) return detail;
  if (status === LATE_STATUS) return LATE;
  const words = [detail, title].find((each) => typeof each === "string" && each !== "");
  return words === undefined ? null : `The gateway answered: ${words}.`;
}

async function problemOf(response: Response): Promise<Problem> {
  const document: unknown = await response.json().catch(() => null);
  const retryAfterS = Number(response.headers.get("retry-after") ?? 0);
  return new Problem(
    sentenceOf(document) ?? `The gateway answered ${response.status}.`,
    response.status,
    Number.isFinite(retryAfterS) ? retryAfterS * 1000 : 0,
  );
}
