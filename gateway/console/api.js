// The HTTP API of the gateway: JSON calls, and event streams that carry the Authorization header.

const OFFLINE = { type: "offline", detail: "The gateway does not answer. Is it running, and is this machine online?" };

/** A problem the API answered with. */
export class Problem extends Error {
  constructor(status, document, requestId) {
    const detail = document.detail || document.error?.message || `The gateway answered ${status}.`;
    super(requestId ? `${detail} (request ${requestId})` : detail);
    this.name = "Problem";
    this.status = status;
    this.code = document.type?.split(":").pop() || document.error?.code || "";
    this.scope = document.scope; // that the key lacks
    this.errors = document.errors ?? []; // {field, message}
  }
}

export class Api {
  constructor(key) {
    this.key = key;
  }

  /** `/v1/users/<user>` and what follows; the id is encoded. */
  static user(user, rest = "") {
    if (/^\.{1,2}$|[/\\]/.test(user)) throw new Error("A user's id has no slash and is not only dots.");
    return `/v1/users/${encodeURIComponent(user)}${rest}`;
  }

  async fetch(method, path, { body, headers = {}, signal } = {}) {
    const sent = this.key ? { Authorization: `Bearer ${this.key}`, ...headers } : { ...headers };
    if (body !== undefined) sent["Content-Type"] = "application/json";
    const content = body === undefined ? undefined : JSON.stringify(body);
    const asked = fetch(path, { method, signal, headers: sent, body: content, cache: "no-store", credentials: "omit" });
    const answer = await asked.catch((error) => {
      throw error.name === "AbortError" ? error : new Problem(0, OFFLINE);
    });
    if (!answer.ok) {
      const document = await answer.json().catch(() => ({}));
      throw new Problem(answer.status, document, answer.headers.get("X-Request-Id"));
    }
    return answer;
  }

  /** The JSON of an answer; null where there is none. */
  async json(method, path, options) {
    const answer = await this.fetch(method, path, options);
    return answer.status === 204 ? null : answer.json();
  }

  /** The events of a stream, as {id, event, data}; `opened` gets the answer's headers. */
  async *events(method, path, { opened, ...options } = {}) {
    const answer = await this.fetch(method, path, options);
    opened?.(answer.headers);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    let event = { event: "message", data: [] };
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        const parts = (rest + value).split(/\r\n|\n|\r(?!$)/);
        rest = parts.pop();
        for (const line of parts) {
          if (line === "") {
            if (event.data.length) yield { ...event, data: event.data.join("\n") };
            event = { event: "message", data: [] };
          } else {
            addField(event, line);
          }
        }
      }
    } finally {
      await reader.cancel().catch(() => {});
    }
  }
}

function addField(event, line) {
  const colon = line.indexOf(":");
  if (colon === 0) return; // a comment keeps the connection alive
  const name = colon < 0 ? line : line.slice(0, colon);
  const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
  if (name === "data") event.data.push(value);
  else if (name === "event" || name === "id") event[name] = value;
}

/** A key by which a call can be repeated safely; works without a secure context too. */
export function idempotencyKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

let description;

/** The OpenAPI document, asked for once; a failure is asked again. */
export function openApi() {
  description ??= new Api("").json("GET", "/openapi.json").catch((error) => {
    description = undefined;
    throw error;
  });
  return description;
}

/** The scopes that keys may hold, and those that user tokens may. */
export async function scopes() {
  const { components, paths } = await openApi();
  const ofUsers = Object.values(paths)
    .flatMap((calls) => Object.values(calls))
    .flatMap((call) => call.security ?? [])
    .flatMap((needed) => needed.user_token ?? []);
  return { all: components.schemas.Problem.properties.scope.enum, ofUsers: [...new Set(ofUsers)] };
}
