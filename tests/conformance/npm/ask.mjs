// What the npm clients of OpenAI, Anthropic and the AI SDK make of the suite. Prints a line a check.
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import Anthropic from "@anthropic-ai/sdk";
import { generateObject, generateText, stepCountIs, streamText, tool } from "ai";
import assert from "node:assert/strict";
import OpenAI from "openai";
import { z } from "zod";

const { ALIGNX_URL: url, ALIGNX_API_KEY: apiKey, ALIGNX_MODEL: model } = process.env;
const baseURL = `${url}/v1`;
const messages = [{ role: "user", content: "Hello." }];
const SAID = "You said: Hello.";
const schema = { type: "object", properties: { title: { type: "string" } }, required: ["title"] };
const called = { type: "function", function: { name: "stock", parameters: schema } };
const failure = (promise) => promise.then(() => assert.fail("no error"), (error) => error);

const openai = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const anthropic = new Anthropic({ baseURL: url, apiKey, maxRetries: 0 });
const say = { model, max_tokens: 64, messages };
const stock = tool({
  description: "How many copies are there?",
  inputSchema: z.object({ title: z.string() }),
  execute: async ({ title }) => `3 copies of ${title}`,
});
const ai = (provider) => ({
  "generateText": async () => {
    const { text, usage } = await generateText({ model: provider, prompt: "Hello.", maxRetries: 0 });
    assert.deepEqual([text, usage.outputTokens], [SAID, 3]);
  },
  "streamText": async () => {
    let text = "";
    for await (const piece of streamText({ model: provider, prompt: "Hello.", maxRetries: 0 }).textStream) text += piece;
    assert.equal(text, SAID);
  },
  "tools in steps": async () => {
    const prompt = "Have you got Solaris?";
    const steps = { stopWhen: stepCountIs(3), maxRetries: 0 };
    const { text } = await generateText({ model: provider, prompt, tools: { stock }, ...steps });
    assert.equal(text, "The tool says: 3 copies of Solaris");
  },
  "tools in a stream": async () => {
    const prompt = "Have you got Solaris?";
    const answer = streamText({ model: provider, prompt, tools: { stock }, stopWhen: stepCountIs(3), maxRetries: 0 });
    assert.equal(await answer.text, "The tool says: 3 copies of Solaris");
  },
  "generateObject": async () => {
    const { object } = await generateObject({ model: provider, prompt: "A book.", schema: z.object({ title: z.string() }) });
    assert.deepEqual(object, { title: "Solaris" });
  },
});

const CHECKS = {
  "openai (npm)": {
    "chat": async () => {
      const answer = await openai.chat.completions.create({ model, messages, user: "ann" });
      assert.equal(answer.choices[0].message.content, SAID);
      assert.equal(answer.personalization.user, "ann");
    },
    "chat in a stream, with counts": async () => {
      let [text, usage] = ["", null];
      const options = { stream: true, stream_options: { include_usage: true } };
      for await (const chunk of await openai.chat.completions.create({ model, messages, ...options })) {
        text += chunk.choices[0]?.delta.content ?? "";
        usage = chunk.usage ?? usage;
      }
      assert.deepEqual([text, usage.completion_tokens], [SAID, 3]);
    },
    "chat calls a tool": async () => {
      const answer = await openai.chat.completions.create({ model, messages, tools: [called] });
      assert.equal(answer.choices[0].message.tool_calls[0].function.name, "stock");
    },
    "chat with a schema": async () => {
      const response_format = { type: "json_schema", json_schema: { name: "book", schema } };
      const answer = await openai.chat.completions.create({ model, messages, response_format });
      assert.deepEqual(JSON.parse(answer.choices[0].message.content), { title: "Solaris" });
    },
    "responses": async () => assert.equal((await openai.responses.create({ model, input: "Hello." })).output_text, SAID),
    "responses in a stream": async () => {
      const stream = openai.responses.stream({ model, input: "Hello." });
      assert.equal((await stream.finalResponse()).output_text, SAID);
    },
    "responses call a function": async () => {
      const tools = [{ type: "function", name: "stock", parameters: schema, strict: false }];
      const answer = await openai.responses.create({ model, input: "Have you got Solaris?", tools });
      assert.equal(answer.output[0].name, "stock");
    },
    "models": async () => {
      assert.ok((await openai.models.list()).data.some(({ id }) => id === model));
      assert.equal((await openai.models.retrieve(model)).id, model);
    },
    "unknown models": async () => {
      for (const attempt of [
        () => openai.chat.completions.create({ model: "other", messages }),
        () => openai.responses.create({ model: "other", input: "Hello." }),
        () => openai.models.retrieve("other"),
      ]) {
        const error = await failure(attempt());
        assert.deepEqual([error.status, error.code], [404, "model_not_found"]);
      }
    },
    "unknown routes": async () => {
      const error = await failure(openai.embeddings.create({ model, input: "a" }));
      assert.deepEqual([error.status, error.code], [404, "route_unknown"]);
    },
    "what is refused is named": async () => {
      for (const [fields, param] of [[{ store: true }, "store"], [{ previous_response_id: "resp_1" }, "previous_response_id"]]) {
        const error = await failure(openai.responses.create({ model, input: "Hello.", ...fields }));
        assert.deepEqual([error.status, error.param], [422, param]);
      }
      const content = [{ type: "input_file", file_id: "file-1" }];
      const error = await failure(openai.responses.create({ model, input: [{ role: "user", content }] }));
      assert.deepEqual([error.status, error.param], [422, "input.0.content.0"]);
    },
    "users by their fields": async () => {
      for (const fields of [{ user: "ann" }, { safety_identifier: "ann" }, { metadata: { user_id: "ann" } }]) {
        const answer = await openai.responses.create({ model, input: "Hello.", ...fields });
        assert.equal(answer.personalization.user, "ann");
      }
    },
  },
  "@anthropic-ai/sdk": {
    "messages": async () => {
      const answer = await anthropic.messages.create({ ...say, metadata: { user_id: "ann" } });
      assert.deepEqual([answer.content[0].text, answer.stop_reason], [SAID, "end_turn"]);
      assert.equal(answer.personalization.user, "ann");
    },
    "messages in a stream": async () => {
      const message = await anthropic.messages.stream(say).finalMessage();
      assert.deepEqual([message.content[0].text, message.usage.output_tokens], [SAID, 3]);
    },
    "messages call a tool": async () => {
      const message = await anthropic.messages.stream({ ...say, tools: [{ name: "stock", input_schema: schema }] }).finalMessage();
      assert.deepEqual([message.content[0].name, message.content[0].input], ["stock", { title: "Solaris" }]);
    },
    "errors": async () => {
      const unknown = await failure(anthropic.messages.create({ ...say, model: "other" }));
      assert.deepEqual([unknown.status, unknown.error.error.type], [404, "not_found_error"]);
      const stranger = new Anthropic({ baseURL: url, apiKey: String(0), maxRetries: 0 });
      assert.equal((await failure(stranger.messages.create(say))).status, 401);
    },
  },
  "@ai-sdk/openai": ai(createOpenAI({ baseURL, apiKey })(model)),
  "@ai-sdk/openai-compatible": ai(createOpenAICompatible({ name: "alignx", baseURL, apiKey, supportsStructuredOutputs: true })(model)),
};

for (const [client, checks] of Object.entries(CHECKS)) {
  for (const [check, attempt] of Object.entries(checks)) {
    const why = await attempt().then(() => "", (error) => String(error?.message || error).split("\n")[0]);
    console.log(JSON.stringify({ client, check, why }));
  }
}
