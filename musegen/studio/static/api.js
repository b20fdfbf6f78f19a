// Requests to the studio's server. Work answers with server-sent events.
async function refused(response) {
  const text = await response.text();
  let message = text;
  try {
    message = JSON.parse(text).message ?? text;
  } catch {
    /* plain text */
  }
  return new Error(message || `the server answered ${response.status}`);
}

async function request(path, options) {
  try {
    return await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("the studio does not answer; was it ended?");
  }
}

export async function get(path) {
  const response = await request(path);
  if (!response.ok) throw await refused(response);
  return response.json();
}

/**
 * Let the server work. `body` is sent as JSON, or as it is if it is binary.
 * `on` has functions for the events `waiting` and `progress`; aborting `signal` stops the work.
 * Returns the result, or null if the work was stopped.
 */
export async function work(path, body, { on = {}, signal } = {}) {
  const binary = body instanceof ArrayBuffer;
  let result;
  try {
    const response = await request(`api/${path}`, {
      method: "POST",
      signal,
      body: binary ? body : JSON.stringify(body),
      headers: { "Content-Type": binary ? "application/octet-stream" : "application/json" },
    });
    if (!response.ok) throw await refused(response);
    for await (const { event, data } of events(response.body)) {
      if (event === "done") result = data;
      if (event === "stopped") result = null;
      if (event === "error") throw new Error(data.message);
      on[event]?.(data);
    }
  } catch (error) {
    if (signal?.aborted) return null;
    throw error;
  }
  if (result === undefined) throw new Error("the studio ended before the work was done");
  return result;
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const parts = text.split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const lines = part.split("\n");
      const event = lines.find((l) => l.startsWith("event: "))?.slice(7);
      const data = lines
        .filter((l) => l.startsWith("data: "))
        .map((l) => l.slice(6))
        .join("\n");
      if (event) yield { event, data: JSON.parse(data) };
    }
  }
}
