// The client of AlignX Serve: one method an operation of its API, under the names of the Python SDK.
//
//     const alignx = new AlignX();    // ALIGNX_URL, ALIGNX_API_KEY
//     await alignx.append({ user: "ada", events: [{ type: "statement", text: "I like short books." }] });
import { OPERATIONS } from "./operations.js";
import { readEvents } from "./sse.js";
import type * as types from "./types.js";

export type * from "./types.js";
export type { components, operations, paths } from "./schema.js";

/** An answer that is no success. `code` is the problem's, such as `rate_limited`. */
export class AlignXError extends Error {
  override name = "AlignXError";
  constructor(
    readonly status: number,
    readonly code: string,
    detail: string,
    readonly problem: Record<string, unknown> = {},
  ) {
    super(detail);
  }
}

export interface ClientOptions {
  /** Default: ALIGNX_URL, else http://127.0.0.1:8080. */
  baseUrl?: string;
  /** An API key or a user token. Default: ALIGNX_API_KEY. */
  apiKey?: string;
  /** Further attempts after the first; default 3. */
  retries?: number;
  /** Milliseconds without an answer after which a call ends; default 180,000. */
  timeoutMs?: number;
  fetch?: typeof fetch;
}

export interface CallOptions {
  signal?: AbortSignal;
  retries?: number;
}

interface Request {
  method: string;
  path: string;
  headers: Record<string, string>;
  body?: string;
  /** Whether sending it twice has the effect of sending it once. */
  repeatable: boolean;
}

const NOT_REPEATABLE: ReadonlySet<string> = new Set(["create_key", "rotate_key", "create_webhook", "rotate_webhook"]);
const [FIRST_MS, LONGEST_MS] = [500, 30_000];
const environment: Record<string, string | undefined> = globalThis.process?.env ?? {};
const pause = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));

type Method<N extends types.Name> = (
  ...args: {} extends types.Input<N>
    ? [input?: types.Input<N>, options?: CallOptions]
    : [input: types.Input<N>, options?: CallOptions]
) => Promise<types.Answer<N>>;
/** `create_response` and `create_message` are for the SDKs of OpenAI and Anthropic. */
type Methods = {
  [N in Exclude<types.Name, "append_many" | "create_message" | "create_response" | "export" | "watch">]: Method<N>;
};

export interface AlignX extends Methods {}
export class AlignX {
  readonly #options: Required<ClientOptions>;

  constructor(options: ClientOptions = {}) {
    this.#options = {
      baseUrl: (options.baseUrl ?? environment.ALIGNX_URL ?? "http://127.0.0.1:8080").replace(/\/+$/, ""),
      apiKey: options.apiKey ?? environment.ALIGNX_API_KEY ?? "",
      retries: options.retries ?? 3,
      timeoutMs: options.timeoutMs ?? 180_000,
      fetch: options.fetch ?? globalThis.fetch.bind(globalThis),
    };
  }

  /** The summary, or null while it is still the one with this ETag. */
  async preferences_if_changed(
    { user, etag }: { user: string; etag: string },
    options?: CallOptions,
  ): Promise<types.Preferences | null> {
    const response = await this.#send(toRequest("preferences", { user, "if-none-match": etag }), options);
    return response.status === 304 ? null : ((await readAnswer(response)) as types.Preferences);
  }

  /** Appends for many users in one call; a line that is refused stops no other and throws nothing. */
  async append_many(lines: readonly types.UserEvents[], options?: CallOptions): Promise<types.LineOutcome[]> {
    const keyed = lines.map((line) => JSON.stringify({ idempotency_key: crypto.randomUUID(), ...line }));
    const request = { ...toRequest("append_many", {}), body: keyed.join("\n") };
    request.headers["content-type"] = "application/jsonl";
    const answer = await (await this.#send(request, options)).text();
    return answer.split("\n").filter(Boolean).map((line) => JSON.parse(line) as types.LineOutcome);
  }

  /** All users of the key's tenant, page by page. */
  async *all_users(input: { prefix?: string } = {}): AsyncGenerator<types.Schemas["ListedUser"]> {
    for (let after: string | undefined; ; ) {
      const page = await this.users({ ...input, ...(after && { after }), limit: 1_000 });
      yield* page.users;
      if (!(after = page.next ?? undefined)) return;
    }
  }

  /** The whole history, oldest first, page by page. */
  async *all_events(input: { user: string }): AsyncGenerator<types.Schemas["StoredInteraction"]> {
    for (let after: string | undefined; ; ) {
      const page = await this.events({ ...input, ...(after && { after }) });
      yield* page.events;
      if (!(after = page.next ?? undefined)) return;
    }
  }

  /** All versions, newest first, page by page. */
  async *all_versions(input: { user: string }): AsyncGenerator<types.Schemas["SummaryVersion"]> {
    for (let before: number | undefined; ; ) {
      const page = await this.versions({ ...input, ...(before && { before }) });
      yield* page.versions;
      if (!(before = page.next ?? undefined)) return;
    }
  }

  /** All data of a user, as the bytes of a JSON-lines file. */
  async export(input: { user: string }, options?: CallOptions): Promise<ReadableStream<Uint8Array>> {
    return (await this.#send(toRequest("export", input), options)).body!;
  }

  /** The answer of a chat in pieces. */
  async *stream_chat(input: types.Input<"chat">, options?: CallOptions): AsyncGenerator<types.ChatChunk> {
    const response = await this.#send(toRequest("chat", { ...input, stream: true }), options);
    for await (const { data } of readEvents(response.body!)) {
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw toError(502, chunk);
      const { delta, finish_reason = null } = chunk.choices?.[0] ?? {};
      yield { text: delta?.content ?? "", finish_reason, personalization: chunk.personalization ?? null };
    }
    throw new AlignXError(0, "broken_off", "The answer broke off before its end.");
  }

  /** The summary as it is written, without end; a lost connection is resumed where it broke. */
  async *watch(input: { user: string }, options: CallOptions = {}): AsyncGenerator<types.SummaryEvent> {
    let [lastId, pauseMs] = ["", 1_000];
    while (!options.signal?.aborted) {
      const request = toRequest("watch", { ...input, ...(lastId && { "last-event-id": lastId }) });
      const response = await this.#send(request, options);
      try {
        for await (const event of readEvents(response.body!)) {
          lastId = event.id || lastId;
          pauseMs = event.retry ?? pauseMs;
          const update = event.data ? toSummaryEvent(event.event, JSON.parse(event.data)) : null;
          if (update) yield update;
        }
      } catch (error) {
        if (!(error instanceof TypeError)) throw error; // what fetch throws where the connection is lost
      }
      await pause(pauseMs);
    }
  }

  /** Any operation by its name; each is also a method of the client. */
  async call<N extends types.Name>(name: N, input?: types.Input<N>, options?: CallOptions): Promise<types.Answer<N>> {
    const response = await this.#send(toRequest(name, { ...(input as object) }), options);
    return (await readAnswer(response)) as types.Answer<N>;
  }

  async #send(request: Request, { signal, retries = this.#options.retries }: CallOptions = {}): Promise<Response> {
    const { baseUrl, apiKey, timeoutMs, fetch } = this.#options;
    const headers = { ...(apiKey && { authorization: `Bearer ${apiKey}` }), ...request.headers };
    for (let attempt = 0; ; attempt++) {
      const late = new AbortController();
      const timer = setTimeout(() => late.abort(new DOMException("No answer came in time.", "TimeoutError")), timeoutMs);
      let delayMs = Math.min(FIRST_MS * 2 ** attempt, LONGEST_MS) * (0.5 + Math.random() / 2);
      try {
        const init = { method: request.method, headers, ...(request.body !== undefined && { body: request.body }) };
        const ends = signal ? AbortSignal.any([signal, late.signal]) : late.signal;
        const response = await fetch(baseUrl + request.path, { ...init, signal: ends });
        if (response.ok || response.status === 304) return response;
        const afterMs = Number(response.headers.get("retry-after") || "NaN") * 1_000;
        if (afterMs >= 0) delayMs = afterMs;
        const isTemporary = response.status === 429 || (response.status === 503 && request.repeatable);
        if (!isTemporary || attempt >= retries || delayMs > LONGEST_MS) throw await readError(response);
        await response.body?.cancel();
      } catch (error) {
        const wasNeverSent = (error as { cause?: { code?: string } }).cause?.code === "ECONNREFUSED";
        const isLost = error instanceof TypeError && (request.repeatable || wasNeverSent);
        if (!isLost || attempt >= retries) throw error;
      } finally {
        clearTimeout(timer);
      }
      await pause(delayMs);
    }
  }
}

for (const name of Object.keys(OPERATIONS) as types.Name[]) {
  if (name in AlignX.prototype || name === "create_response" || name === "create_message") continue;
  const method = function (this: AlignX, input?: types.Input<typeof name>, options?: CallOptions) {
    return this.call(name, input, options);
  };
  Object.defineProperty(AlignX.prototype, name, { value: method, writable: true, configurable: true });
}

function toRequest(name: types.Name, input: Record<string, unknown>): Request {
  const { method, path, query, header }: { method: string; path: string; query: readonly string[]; header: readonly string[] } =
    OPERATIONS[name];
  const rest = { ...input };
  const take = (key: string): string => {
    const value = rest[key];
    delete rest[key];
    return String(value);
  };
  const filled = path.replace(/\{(\w+)\}/g, (_, key: string) => toSegment(take(key)));
  const present = (keys: readonly string[]) => keys.filter((key) => rest[key] !== undefined && rest[key] !== null);
  const search = new URLSearchParams(present(query).map((key) => [key, take(key)])).toString();
  const headers = Object.fromEntries(present(header).map((key) => [key.toLowerCase(), take(key)]));
  const request: Request = {
    method,
    path: search ? `${filled}?${search}` : filled,
    headers,
    repeatable: !NOT_REPEATABLE.has(name),
  };
  if (header.includes("idempotency-key")) headers["idempotency-key"] ??= crypto.randomUUID();
  if (method === "GET" || method === "DELETE" || (method === "POST" && name === "rebuild")) return request;
  headers["content-type"] = "application/json";
  return { ...request, body: JSON.stringify(rest) };
}

/** A value as one segment of a path, whatever it holds; "." and ".." would name another resource. */
function toSegment(value: string): string {
  const segment = encodeURIComponent(value);
  return /^\.+$/.test(segment) ? segment.replaceAll(".", "%2E") : segment;
}

async function readAnswer(response: Response): Promise<unknown> {
  const text = await response.text();
  if (!text || !response.headers.get("content-type")?.includes("json")) return text || undefined;
  const [answer, etag] = [JSON.parse(text), response.headers.get("etag")];
  return etag ? { ...answer, etag } : answer;
}

async function readError(response: Response): Promise<AlignXError> {
  const text = await response.text();
  try {
    return toError(response.status, JSON.parse(text));
  } catch {
    return new AlignXError(response.status, "unreadable", text.slice(0, 500));
  }
}

/** A problem (RFC 9457), or the error of a chat, which has OpenAI's shape. */
function toError(status: number, document: Record<string, any>): AlignXError {
  const problem = document.error ?? document;
  const code = problem.code ?? String(problem.type).split(":").pop();
  const detail = problem.detail ?? problem.message ?? problem.title;
  return new AlignXError(problem.status ?? status, code, detail, problem);
}

function toSummaryEvent(name: string, data: any): types.SummaryEvent | null {
  switch (name) {
    case "pending":
    case "delta":
      return { type: name, ...data };
    case "version":
      return { type: name, preferences: data };
    case "changed":
      return { type: name, change: data };
    case "error":
      return { type: name, problem: data };
    default:
      return null;
  }
}
