// The viewer below the editor: the lines of a training file that a match is equal to, and some around them.

import { readSource, ServerError } from "./api.js";
import { element, licenseBadge, linesOf, make } from "./dom.js";

const AROUND = 3; // lines shown before and after
const MOST_LINES = 1_500;
const TOKEN = /[A-Za-z0-9_\u0080-\u{10ffff}]+|[!-/:-@[-^`{-~]/gu; // code tokens, as the index has them

let wanted = 0; // an answer that comes after a later question is not shown

/** Show a source; `copied` is the part of the completion that stands in it. */
export async function openSource(source, copied) {
  const question = ++wanted;
  showHead(source);
  setOpen(true);
  element("viewer-code").replaceChildren(make("p", { class: "message" }, "loading"));
  const first = Math.max(source.first_line - AROUND, 1);
  const last = Math.min(source.last_line + AROUND, first + MOST_LINES - 1);
  let shown;
  try {
    const found = await readSource(source.swhid, first, last);
    shown = [...linesWith(found.text.split("\n"), first, source, copied), found.cut ? make("p", { class: "message" }, "…") : ""];
  } catch (error) {
    if (!(error instanceof ServerError)) throw error;
    shown = [make("p", { class: "message", "data-tone": "bad" }, error.message)];
  }
  if (question !== wanted) return;
  element("viewer-code").replaceChildren(...shown);
  element("viewer-code").querySelector("[data-matched]")?.scrollIntoView({ block: "nearest" });
  element("viewer").scrollIntoView({ block: "nearest" });
}

export function closeSource() {
  wanted += 1;
  setOpen(false);
}

function setOpen(open) {
  element("viewer").hidden = !open;
  element("main").dataset.viewer = open ? "open" : "";
}

function showHead(source) {
  element("viewer-path").textContent = source.path;
  element("viewer-lines").textContent = source.first_line === source.last_line ? `line ${linesOf(source)}` : `lines ${linesOf(source)}`;
  element("viewer-license").replaceChildren(licenseBadge(source.license));
  const from = source.commit ? `${source.repository} at ${source.commit.slice(0, 10)}` : source.repository;
  element("viewer-origin").textContent = from;
  element("viewer-swhid").textContent = source.swhid;
  const link = element("viewer-link");
  link.hidden = !isWeb(source.url);
  if (link.hidden) link.removeAttribute("href");
  else link.href = source.url;
}

/** An address comes from the corpus: only one of the web becomes a link. */
function isWeb(address) {
  try {
    return ["https:", "http:"].includes(new URL(address).protocol);
  } catch {
    return false;
  }
}

/** Lines with their numbers; those of the match are tinted, and in them the copied part is marked. */
function linesWith(lines, first, source, copied) {
  const from = lines.slice(0, source.first_line - first).join("\n").length + (source.first_line > first ? 1 : 0);
  const matched = lines.slice(source.first_line - first, source.last_line - first + 1).join("\n");
  const [start, end] = placeOf(matched, copied).map((place) => place + from);
  let at = 0;
  return lines.map((line, number) => {
    const indentation = line.length - line.trimStart().length;
    const [low, high] = [start - at, end - at].map((place) => Math.min(Math.max(place, indentation), line.length));
    at += line.length + 1;
    const inMatch = first + number >= source.first_line && first + number <= source.last_line;
    const code = make("code", {}, line.slice(0, low), high > low ? make("mark", {}, line.slice(low, high)) : "", line.slice(high));
    const label = make("span", { class: "number" }, `${first + number}`);
    return make("div", { class: "line", "data-matched": inMatch && "yes" }, label, code);
  });
}

/** Where the copied part stands: its tokens are equal to those of the source, its spacing need not be. */
function placeOf(text, copied) {
  const tokens = [...text.matchAll(TOKEN)];
  const words = [...copied.matchAll(TOKEN)].map(([word]) => word);
  for (let place = tokens.length - words.length; place >= 0 && words.length; place -= 1) {
    if (!words.every((word, number) => tokens[place + number][0] === word)) continue;
    const last = tokens[place + words.length - 1];
    return [tokens[place].index, last.index + last[0].length];
  }
  return [0, 0];
}
