// The side panel: what the last completion was, what it cost, and where its text was seen before.

import { element, licenseBadge, linesOf, make } from "./dom.js";
import { closeSource, openSource } from "./source.js";

// In the order of weight: where matches overlap, the first marks the text.
const KINDS = {
  source: { label: "source", tone: "accent", about: "this code stands in these files of the corpus" },
  common: { label: "common", tone: "", about: "many places in the corpus have this code" },
  licence: { label: "licence text", tone: "", about: "the wording of a licence" },
  "low-information": { label: "boilerplate", tone: "", about: "too ordinary to have an origin" },
};
const FINISHES = { stop: "complete", length: "length limit", content_filter: "blocked" };
const SHOWN_LICENSES = 8;

let indexed = false; // whether the server has an index

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
  element("text").hidden = element("figures").hidden = element("blocked").hidden = true;
  showMatches([], "");
  element("source-message").textContent = "Files of the training corpus that share code with the completion.";
}

/** A completion of which nothing was given. */
export function showHeldBack(completion) {
  showMessage("The answer was held back: it would only have gone on with a copy.", "bad");
  showMatches(completion.matches, completion.text);
}

export function showCompletion(completion) {
  element("message").hidden = true;
  element("text").hidden = element("figures").hidden = false;
  element("text").replaceChildren(...marked(completion.text, completion.matches ?? []));
  element("blocked").hidden = completion.finish !== "content_filter";
  element("latency").textContent = `${Math.round(completion.latencyMs)} ms`;
  element("tokens").textContent = completion.tokens;
  element("finish").textContent = FINISHES[completion.finish] ?? completion.finish;
  showMatches(completion.matches, completion.text);
}

/** The header and the cards that depend on the server alone. */
export function showHealth(health) {
  const about = health.starsmith;
  element("model").hidden = false;
  element("model-id").textContent = element("connect-model").textContent = health.model;
  const facts = [ // a backend may tell neither its size nor its context
    about.parameters && `${short(about.parameters)} parameters`,
    about.context_tokens && `context ${about.context_tokens.toLocaleString("en")} tokens`,
    about.backend ? `by ${about.backend}` : `on ${health.device}`,
  ];
  element("model-facts").textContent = facts.filter(Boolean).join(" · ");
  const base = new URL(".", location.href).href.replace(/\/$/, "");
  element("tabby-url").textContent = base;
  element("openai-url").textContent = `${base}/v1`;
  indexed = Boolean(about.index);
  showLicenses(about.licenses);
  showTaints(about.tainted ?? []);
  showUpstreams(about.upstreams ?? []);
}

/** The servers that answer for this one, and how they do. */
function showUpstreams(upstreams) {
  element("upstreams-card").hidden = !upstreams.length;
  const healthy = upstreams.filter((upstream) => upstream.healthy).length;
  element("upstreams-state").textContent = `${healthy} of ${upstreams.length} healthy`;
  const items = upstreams.map(({ name, healthy: well, outstanding }) => {
    const badge = make("span", { class: "badge", "data-tone": well ? "good" : "bad" }, well ? "healthy" : "at fault");
    return make("li", {}, badge, ` ${name}, answering ${outstanding}`);
  });
  element("upstreams").replaceChildren(...items);
}

/** What the model or the index was made from and has been withdrawn since. */
function showTaints(taints) {
  const told = taints.map(({ kind, requests }) => `${kind} (request ${requests.join(", ")})`);
  element("tainted").hidden = !told.length;
  element("tainted").textContent = `Withdrawn since this model was made: something in its ${told.join("; in its ")}.`;
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

function showMatches(matches, text) {
  closeSource();
  const message = element("source-message");
  const sorted = byWeight(matches ?? []);
  element("matches").replaceChildren(...sorted.map((match) => matchBlock(match, text)));
  element("source-count").textContent = sorted.length ? `${sorted.length} ${sorted.length > 1 ? "matches" : "match"}` : "";
  message.hidden = Boolean(sorted.length);
  message.textContent = matches
    ? "No file of the training corpus shares code with this completion."
    : indexed
      ? "Attribution is off for this client."
      : "This server has no index of its corpus. Start it with --index DIR to see sources.";
}

function byWeight(matches) {
  const rank = ({ kind }) => Object.keys(KINDS).indexOf(kind);
  return [...matches].sort((a, b) => Number(b.blocked) - Number(a.blocked) || rank(a) - rank(b));
}

function matchBlock(match, text) {
  const kind = KINDS[match.kind] ?? { label: match.kind, tone: "", about: "" };
  const places = match.count === 1 ? "1 place" : `${match.count.toLocaleString("en")} places`;
  const badge = (label, tone, about) => make("span", { class: "badge", "data-tone": tone, title: about }, label);
  const head = make(
    "div",
    { class: "match-head" },
    badge(kind.label, kind.tone, kind.about),
    match.blocked ? badge("blocked", "bad", "the completion was ended because of it") : "",
    `${match.tokens} code tokens in ${places}`,
  );
  const copied = text.slice(match.start, match.end);
  const code = copied.trim().split("\n")[0];
  const shown = code ? make("code", { class: "match-code", "data-kind": match.kind }, code) : "";
  return make("div", { class: "match" }, head, shown, sourceTable(match.sources, copied));
}

function sourceTable(sources, copied) {
  if (!sources.length) return "";
  const header = make("tr", {}, ...["File", "Lines", "Licence"].map((name) => make("th", { scope: "col" }, name)));
  const rows = sources.map((source) => sourceRow(source, copied));
  return make("table", {}, make("thead", {}, header), make("tbody", {}, ...rows));
}

function sourceRow(source, copied) {
  const from = source.commit ? `${source.repository} at ${source.commit.slice(0, 10)}` : source.repository;
  const open = make("button", { type: "button", class: "path", title: `Show ${source.swhid}` }, source.path);
  open.addEventListener("click", () => openSource(source, copied));
  const file = make("td", {}, open, make("span", { class: "repository" }, from));
  return make("tr", {}, file, make("td", { class: "lines" }, linesOf(source)), make("td", {}, licenseBadge(source.license)));
}

/** The text with the parts that the corpus has, too, marked by kind; a click on one opens its first source. */
function marked(text, matches) {
  const sorted = byWeight(matches);
  const borders = [...new Set([0, text.length, ...matches.flatMap(({ start, end }) => [start, end])])].sort((a, b) => a - b);
  const parts = [];
  borders.slice(0, -1).forEach((from, number) => {
    const to = borders[number + 1];
    const match = sorted.find(({ start, end }) => start <= from && to <= end);
    const previous = parts.at(-1);
    if (previous && previous.match === match) previous.to = to;
    else parts.push({ from, to, match });
  });
  return parts.flatMap(({ from, to, match }) => {
    const lines = text.slice(from, to).split(/(\n\s*)/); // the indentation of a line is no part of a copy
    return match ? lines.map((line) => (line.trim() ? markOf(line, match, text) : line)) : lines;
  });
}

function markOf(part, match, text) {
  const kind = KINDS[match.kind] ?? { about: match.kind };
  const mark = make("mark", { "data-kind": match.kind, "data-blocked": match.blocked && "yes", title: kind.about }, part);
  const [source] = match.sources;
  if (source) mark.addEventListener("click", () => openSource(source, text.slice(match.start, match.end)));
  return mark;
}

function short(number) {
  const [divisor, unit] = number >= 1e9 ? [1e9, " B"] : number >= 1e6 ? [1e6, " M"] : [1, ""];
  return (number / divisor).toLocaleString("en", { maximumFractionDigits: 1 }) + unit;
}
