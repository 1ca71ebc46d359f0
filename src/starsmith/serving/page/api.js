// What the page asks of the server: the same protocol that editor plugins speak.

const PREFIX_CHARACTERS = 20_000;
const SUFFIX_CHARACTERS = 5_000;

let token = sessionStorage.getItem("starsmith-token") ?? "";

/** An answer that is no answer: `status` is 0 when the server could not be reached. */
export class ServerError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function setToken(value) {
  token = value;
  sessionStorage.setItem("starsmith-token", value);
}

export const readHealth = () => ask("v1/health", {});

/** One completion at a cursor; the signal's abort closes the connection, which stops the model. */
export async function complete({ language, before, after }, signal) {
  const segments = { prefix: before.slice(-PREFIX_CHARACTERS), suffix: after.slice(0, SUFFIX_CHARACTERS) };
  const started = performance.now();
  const answer = await ask("v1/completions", { method: "POST", body: { language, segments }, signal });
  const choice = answer.choices[0];
  return {
    id: answer.id,
    text: choice.text,
    finish: choice.finish_reason,
    tokens: answer.usage?.completion_tokens ?? "–", // a backend may not have counted
    matches: choice.starsmith.attribution?.map((match) => inUnits(match, choice.text)), // undefined: nobody looked
    latencyMs: performance.now() - started,
  };
}

/** The server counts characters; a script counts the two halves of some of them. */
function inUnits(match, text) {
  const units = (characters) => [...text].slice(0, characters).join("").length;
  return { ...match, start: units(match.start), end: units(match.end) };
}

/** Lines of a training file that a match named. */
export const readSource = (swhid, first, last) => ask(`v1/starsmith/source?${new URLSearchParams({ swhid, first, last })}`, {});

/** Tell the server what became of a completion: "view", "select" or "dismiss". Nobody waits for it. */
export function report(type, completionId, elapsedMs) {
  const body = { type, completion_id: completionId, choice_index: 0, elapsed: Math.round(elapsedMs) };
  ask("v1/events", { method: "POST", body }).catch(() => {});
}

async function ask(path, { method = "GET", body, signal }) {
  const headers = { ...(body && { "Content-Type": "application/json" }), ...(token && { Authorization: `Bearer ${token}` }) };
  let response;
  try {
    response = await fetch(path, { method, headers, signal, body: body && JSON.stringify(body) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError(0, "The server does not answer. Is starsmith serve still running?");
  }
  const text = await response.text();
  if (!response.ok) throw new ServerError(response.status, messageOf(text, response.status));
  return text && JSON.parse(text);
}

function messageOf(text, status) {
  try {
    return JSON.parse(text).error.message;
  } catch {
    return `The server answered with status ${status}.`;
  }
}
