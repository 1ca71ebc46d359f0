// The side panel: what the last completion was, what it cost, and where its text was seen before.

const element = (id) => document.getElementById(id);

const KINDS = {
  source: { label: "distinctive", tone: "accent", about: "few places in the corpus have this code" },
  common: { label: "common", tone: "", about: "many files of the corpus have this code" },
  "low-information": { label: "boilerplate", tone: "", about: "too ordinary to have an origin" },
};
const FINISHES = { stop: "complete", length: "length limit" };
const SHOWN_LICENSES = 8;

/** Build an element: text and children go in as text and nodes, never as markup. */
function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

export function showState(text, tone = "") {
  const state = element("state");
  state.textContent = text;
  state.dataset.tone = tone;
}

/** A message in place of a completion. */
export function showMessage(text, tone = "") {
  showState("");
  const message = element("message");
  message.textContent = text;
  message.dataset.tone = tone;
  message.hidden = false;
  element("text").hidden = element("figures").hidden = true;
  showSources(null, "");
  element("source-message").textContent = "Files of the training corpus that share code with the completion.";
}

export function showCompletion(completion) {
  element("message").hidden = true;
  element("text").hidden = element("figures").hidden = false;
  element("text").replaceChildren(...marked(completion.text, completion.sources ?? []));
  element("latency").textContent = `${Math.round(completion.latencyMs)} ms`;
  element("tokens").textContent = completion.tokens;
  element("finish").textContent = FINISHES[completion.finish] ?? completion.finish;
  showSources(completion.sources, completion.text);
}

/** The header and the cards that depend on the server alone. */
export function showHealth(health) {
  const about = health.starsmith;
  element("model").hidden = false;
  element("model-id").textContent = element("connect-model").textContent = health.model;
  const facts = [`${short(about.parameters)} parameters`, `context ${about.context_tokens.toLocaleString("en")} tokens`];
  element("model-facts").textContent = [...facts, `on ${health.device}`].join(" · ");
  const base = new URL(".", location.href).href.replace(/\/$/, "");
  element("tabby-url").textContent = base;
  element("openai-url").textContent = `${base}/v1`;
  showLicenses(about.licenses);
}

export function showHealthState(state, text) {
  element("health").dataset.state = state;
  element("health").textContent = text;
  element("token-form").hidden = state !== "locked";
}

function showLicenses(licenses) {
  element("corpus").hidden = !licenses;
  if (!licenses) return;
  const entries = Object.entries(licenses);
  const files = entries.reduce((sum, [, count]) => sum + count, 0);
  element("corpus-files").textContent = `${files.toLocaleString("en")} files`;
  const items = entries
    .slice(0, SHOWN_LICENSES)
    .map(([license, count]) => make("li", {}, licenseBadge(license), ` ${count.toLocaleString("en")}`));
  if (entries.length > SHOWN_LICENSES) items.push(make("li", {}, `and ${entries.length - SHOWN_LICENSES} more`));
  element("licenses").replaceChildren(...items);
}

function showSources(matches, text) {
  const message = element("source-message");
  const rank = (match) => Object.keys(KINDS).indexOf(match.kind);
  const sorted = [...(matches ?? [])].sort((a, b) => rank(a) - rank(b));
  element("matches").replaceChildren(...sorted.map((match) => matchBlock(match, text)));
  element("source-count").textContent = matches?.length ? `${matches.length} ${matches.length > 1 ? "matches" : "match"}` : "";
  message.hidden = Boolean(matches?.length);
  message.textContent = matches
    ? "No file of the training corpus shares code with this completion."
    : "This server has no index of its corpus. Start it with --index DIR to see sources.";
}

function matchBlock(match, text) {
  const kind = KINDS[match.kind] ?? { label: match.kind, tone: "", about: "" };
  const places = match.count === 1 ? "1 place" : `${match.count.toLocaleString("en")} places`;
  const head = make(
    "div",
    { class: "match-head" },
    make("span", { class: "badge", "data-tone": kind.tone, title: kind.about }, kind.label),
    `${match.tokens} code tokens in ${places}`,
  );
  const code = text.slice(match.start, match.end).trim().split("\n")[0];
  return make("div", { class: "match" }, head, make("code", { class: "match-code" }, code), sourceTable(match.sources));
}

function sourceTable(sources) {
  if (!sources.length) return "";
  const header = make("tr", {}, ...["File", "Lines", "Licence"].map((name) => make("th", { scope: "col" }, name)));
  return make("table", {}, make("thead", {}, header), make("tbody", {}, ...sources.map(sourceRow)));
}

function sourceRow(source) {
  const from = source.commit ? `${source.repository} at ${source.commit.slice(0, 10)}` : source.repository;
  const file = make("td", { title: source.swhid });
  file.append(make("span", { class: "path" }, source.path), make("span", { class: "repository" }, from));
  const lines = source.first_line === source.last_line ? source.first_line : `${source.first_line}–${source.last_line}`;
  return make("tr", {}, file, make("td", { class: "lines" }, `${lines}`), make("td", {}, licenseBadge(source.license)));
}

function licenseBadge(license) {
  const tone = !license || /\b(A?GPL|SSPL|BUSL)/.test(license) ? "bad" : /\b(LGPL|MPL|EPL|CDDL)/.test(license) ? "warn" : "good";
  return make("span", { class: "badge", "data-tone": tone }, license || "no licence");
}

/** The text with the parts that the corpus has, too, marked. */
function marked(text, matches) {
  const parts = [];
  let place = 0;
  for (const { start, end } of [...matches].sort((a, b) => a.start - b.start)) {
    if (end <= place) continue;
    const from = Math.max(start, place);
    parts.push(text.slice(place, from), make("mark", {}, text.slice(from, end)));
    place = end;
  }
  return [...parts, text.slice(place)];
}

function short(number) {
  const [divisor, unit] = number >= 1e9 ? [1e9, " B"] : number >= 1e6 ? [1e6, " M"] : [1, ""];
  return (number / divisor).toLocaleString("en", { maximumFractionDigits: 1 }) + unit;
}
