// Typing in the editor asks the server for a completion; its text shows as ghost text, its sources beside it.

import { complete, readHealth, report, ServerError, setToken } from "./api.js";
import { createEditor } from "./editor.js";
import { EXAMPLES, exampleOf } from "./examples.js";
import * as panel from "./panel.js";
import { closeSource } from "./source.js";

const PAUSE_MS = 150; // a person who types on does not want an answer yet
const HEALTH_EVERY_MS = 20_000;

const language = document.getElementById("language");
const automatic = document.getElementById("automatic");

let running = null; // AbortController of the request under way
let timer = null;
let shown = null; // { id, at: time } of the completion in the editor
let checks = 0; // of the health so far: an old answer must not hide a newer one

const editor = createEditor(document.getElementById("editor"), {
  edited(withGhost) {
    if (withGhost) return;
    forget();
    if (automatic.checked) askSoon();
  },
  moved: () => !editor.hasGhost() && forget(),
  accepted(whole) {
    panel.showState("accepted", "good");
    if (shown) report("select", shown.id, performance.now() - shown.at);
    shown = null;
    if (whole && automatic.checked) askSoon();
  },
  dismissed() {
    panel.showState("dismissed");
    if (shown) report("dismiss", shown.id, performance.now() - shown.at);
    shown = null;
  },
  asked: ask,
});

/** Stop waiting for an answer: closing the connection stops the model, too. */
function forget() {
  clearTimeout(timer);
  if (running) panel.showState("");
  running?.abort();
  running = shown = null;
}

function askSoon() {
  clearTimeout(timer);
  timer = setTimeout(ask, PAUSE_MS);
}

async function ask() {
  forget();
  const request = (running = new AbortController());
  panel.showState("thinking", "busy");
  try {
    show(await complete({ language: language.value, ...editor.place() }, request.signal));
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!(error instanceof ServerError)) throw error;
    if (error.status === 401) panel.showMessage("Enter the server's token above to get completions.");
    else panel.showMessage(error.message, "bad");
    if (error.status === 401 || error.status === 0) checkHealth();
  } finally {
    if (running === request) running = null;
  }
}

function show(completion) {
  if (!completion.text.trim()) {
    if (completion.finish === "content_filter") panel.showHeldBack(completion);
    else panel.showMessage("The model suggests nothing at this place.");
    return;
  }
  editor.suggest(completion.text);
  shown = { id: completion.id, at: performance.now() };
  panel.showCompletion(completion);
  panel.showState("Tab accepts it");
  report("view", completion.id, 0);
}

async function checkHealth() {
  const check = ++checks;
  try {
    const health = await readHealth();
    if (check === checks) {
      panel.showHealth(health);
      panel.showHealthState("ready", "ready");
    }
    return true;
  } catch (error) {
    if (!(error instanceof ServerError)) throw error;
    const locked = error.status === 401;
    if (check === checks) panel.showHealthState(locked ? "locked" : "offline", locked ? "token needed" : "offline");
    return false;
  }
}

function openExample() {
  const { text, cursor } = exampleOf(language.value);
  forget();
  editor.open(language.value, text, cursor);
}

document.getElementById("token-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  setToken(document.getElementById("token").value);
  if (await checkHealth()) await ask();
});
document.getElementById("reset").addEventListener("click", openExample);
document.getElementById("viewer-close").addEventListener("click", closeSource);
language.addEventListener("change", openExample);
language.append(...Object.entries(EXAMPLES).map(([name, { label }]) => new Option(label, name)));

openExample();
checkHealth();
setInterval(checkHealth, HEALTH_EVERY_MS);
