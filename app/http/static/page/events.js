// Server-sent events over fetch, because EventSource cannot send a key (WHATWG HTML, section 9.2).

/** Yields {event, data} for each event of a response body. */
export async function* eventsOf(body) {
  let rest = "";
  for await (const piece of textOf(body)) {
    const blocks = (rest + piece).replaceAll("\r\n", "\n").split("\n\n");
    rest = blocks.pop();
    yield* blocks.map(parsed).filter((event) => event.data);
  }
}

/** Reads one event; comments and unknown fields are ignored. */
export function parsed(block) {
  const event = { event: "message", data: "" };
  for (const line of block.split("\n")) {
    const [, name, value] = /^(event|data): ?(.*)$/.exec(line) ?? [];
    if (name === "event") event.event = value;
    if (name === "data") event.data += (event.data && "\n") + value;
  }
  return event;
}

async function* textOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (let read = await reader.read(); !read.done; read = await reader.read()) yield read.value;
  } finally {
    reader.cancel().catch(() => {});
  }
}
