// Server-sent events of a response's body.
export interface ServerSentEvent {
  event: string;
  data: string;
  id: string;
  retry: number | undefined;
}

/** Ends with the body; whoever stops earlier ends the connection. */
export async function* readEvents(body: ReadableStream<Uint8Array>): AsyncGenerator<ServerSentEvent> {
  const reader = body.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const blocks = (rest + value).split(/\r?\n\r?\n/);
      rest = blocks.pop()!;
      for (const block of blocks) {
        const event = parse(block);
        if (event.data || event.id || event.retry !== undefined) yield event;
      }
    }
  } finally {
    await reader.cancel();
  }
}

function parse(block: string): ServerSentEvent {
  const fields = block.split(/\r?\n/).map((line) => /^(\w+): ?(.*)$/s.exec(line));
  const all = (name: string) => fields.filter((field) => field?.[1] === name).map((field) => field![2]!);
  const retry = all("retry").pop();
  return {
    event: all("event").pop() ?? "message",
    data: all("data").join("\n"),
    id: all("id").pop() ?? "",
    retry: retry && /^\d+$/.test(retry) ? Number(retry) : undefined,
  };
}
