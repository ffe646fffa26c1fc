// One request to the API as a stream of parsed chunks, and text from outside made safe to show.

/** The answer to a request that failed: its message, and the HTTP status. */
export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** Headers with the API key, where there is one. */
export function headers(key) {
  return { "content-type": "application/json", ...(key ? { authorization: `Bearer ${key}` } : {}) };
}

/** Throws an ApiError with the server's own words unless the reply is a good one. */
export async function ensureGood(reply) {
  if (reply.ok) return;
  let message = `The server answered ${reply.status}.`;
  try {
    message = (await reply.json()).error.message;
  } catch { /* not the API's error body: the status has to do */ }
  throw new ApiError(message, reply.status);
}

/** Yields the chunks of a chat completion until it is done. */
export async function* chunks(body, key, signal) {
  const reply = await fetch("/v1/chat/completions", { method: "POST", headers: headers(key), body: JSON.stringify(body), signal });
  await ensureGood(reply);
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new ApiError("The connection ended before the answer did.", 0);
    rest += value;
    const events = rest.split("\n\n");
    rest = events.pop();
    for (const event of events) {
      for (const line of event.split("\n")) {
        if (!line.startsWith("data: ")) continue;
        const data = line.slice(6);
        if (data === "[DONE]") return;
        const chunk = JSON.parse(data);
        if (chunk.error) throw new ApiError(chunk.error.message, 0);
        yield chunk;
      }
    }
  }
}

const HIDDEN = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/** Text with control characters and changes of direction as their escapes; line breaks stay. */
export function printable(text) {
  return text.replace(HIDDEN, (character) => {
    const code = character.charCodeAt(0);
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16).padStart(4, "0")}`;
  });
}
