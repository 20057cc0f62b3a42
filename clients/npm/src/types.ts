// What an operation of the OpenAPI document takes and answers.
import type { components, operations } from "./schema.js";

export type Schemas = components["schemas"];
export type Name = keyof operations;

type Part<O, K extends PropertyKey> = O extends { parameters: infer P }
  ? K extends keyof P
    ? [NonNullable<P[K]>] extends [never]
      ? unknown
      : NonNullable<P[K]>
    : unknown
  : unknown;
type Json<T> = { content: { "application/json": T } };
type Body<O> = O extends { requestBody: Json<infer B> }
  ? NonNullable<B>
  : O extends { requestBody?: Json<infer B> }
    ? Partial<NonNullable<B>>
    : unknown;

/** Parameters of path and query, headers and the fields of the body, side by side under their own names. */
export type Input<N extends Name> = Part<operations[N], "path"> &
  Part<operations[N], "query"> &
  Part<operations[N], "header"> &
  Body<operations[N]>;

export type Preferences = Schemas["Preferences"] & {
  /** What a later edit or rollback names as `If-Match`. */
  etag: string;
};

export interface Personalization {
  mode: string;
  user?: string | null;
  summary_version?: number | null;
  learn?: boolean | null;
  /** Which axis adapter answered, where the deployment serves them. */
  axes?: { adapter: string; weights: Record<string, number>; distance: number; chosen: string };
  [field: string]: unknown;
}

/** OpenAI's chat completion, with what it was conditioned on. */
export interface ChatAnswer {
  id: string;
  model: string;
  choices: { index: number; message: { role: string; content: string | null }; finish_reason: string | null }[];
  personalization: Personalization;
  [field: string]: unknown;
}

export interface ChatChunk {
  text: string;
  finish_reason: string | null;
  personalization: Personalization | null;
}

export type SummaryEvent =
  | { type: "pending"; pending: number; version: number }
  | { type: "delta"; text: string }
  | { type: "version"; preferences: Schemas["Preferences"] }
  | { type: "changed"; change: Schemas["PreferenceChange"] }
  | { type: "error"; problem: Schemas["Problem"] };

/** A line of an append for many users. */
export type UserEvents = Schemas["EventsRequest"] & { user: string; idempotency_key?: string };

export interface LineOutcome {
  line: number;
  status: number;
  user?: string | null;
  accepted?: Schemas["EventsAccepted"] | null;
  problem?: Schemas["Problem"] | null;
  retry_after?: number | null;
}

interface Own {
  chat: ChatAnswer;
  edit: Preferences;
  metrics: string;
  models: { object: string; data: { id: string }[] };
  preferences: Preferences;
  rollback: Preferences;
}

type Success = 200 | 201 | 202;
export type Answer<N extends Name> = N extends keyof Own
  ? Own[N]
  : operations[N] extends { responses: infer R }
    ? { [S in keyof R & Success]: R[S] extends Json<infer A> ? A : void }[keyof R & Success]
    : void;
