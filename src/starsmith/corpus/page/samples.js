// The list on the left, one file on the right. Whatever comes from a file is put in as a text node, never as markup.

const files = JSON.parse(document.getElementById("files").textContent);
const byId = (id) => document.getElementById(id);
const list = byId("list");

let shown = []; // the files that fit the filter, as numbers
let current = null;

/** A new element with text and properties. */
function make(tag, text = "", properties = {}) {
  const element = Object.assign(document.createElement(tag), properties);
  element.textContent = text;
  return element;
}

// ---- list and filter

const items = files.map((file, number) => {
  const item = make("div", "", { className: "item", id: `item-${number}`, title: file.path });
  const cut = file.path.lastIndexOf("/") + 1;
  if (file.redactions) item.append(make("em", file.redactions, { title: "redactions" }));
  item.append(make("b", file.path.slice(cut)), make("span", describe(file)));
  item.setAttribute("role", "option");
  item.style.setProperty("--hue", file.hue);
  item.addEventListener("click", () => open(number));
  return item;
});

function describe(file) {
  return [file.language, file.license || "no licence", file.repository].filter(Boolean).join(" · ");
}

function fillChoice(id, key, nameless) {
  const names = [...new Set(files.map((file) => file[key]))].sort();
  byId(id).append(...names.map((name) => new Option(name || nameless, `=${name}`)));
}

function filter() {
  const words = byId("words").value.toLowerCase().split(/\s+/).filter(Boolean);
  const language = byId("language").value;
  const license = byId("license").value;
  const redacted = byId("redacted").checked;
  shown = [];
  files.forEach((file, number) => {
    const hay = `${file.path} ${describe(file)} ${file.license_evidence}`.toLowerCase();
    const fits =
      words.every((word) => hay.includes(word)) &&
      (!language || language === `=${file.language}`) &&
      (!license || license === `=${file.license}`) &&
      (!redacted || file.redactions > 0);
    items[number].hidden = !fits;
    if (fits) shown.push(number);
  });
  byId("count").textContent = shown.length === files.length ? `${files.length} files` : `${shown.length} of ${files.length} files`;
  byId("nothing").hidden = shown.length > 0;
  byId("file").hidden = shown.length === 0;
  if (shown.length && !shown.includes(current)) open(shown[0]);
}

function step(by) {
  if (!shown.length) return;
  const place = Math.min(Math.max(shown.indexOf(current) + by, 0), shown.length - 1);
  open(shown[place]);
}

// ---- one file

function open(number) {
  const file = files[number];
  if (current !== null) items[current].setAttribute("aria-selected", "false");
  current = number;
  items[number].setAttribute("aria-selected", "true");
  items[number].scrollIntoView({ block: "nearest" });
  list.setAttribute("aria-activedescendant", items[number].id);
  byId("path").textContent = file.path;
  byId("provenance").replaceChildren(...provenance(file));
  byId("signals").replaceChildren(...file.signals.map(signal));
  showText(file);
  history.replaceState(null, "", `#${number + 1}`);
}

function signal([label, value]) {
  const item = make("li", `${label} `);
  item.append(make("b", value));
  return item;
}

function provenance(file) {
  const heritage = /^swh:1:cnt:[0-9a-f]{40}$/.test(file.swhid) ? `https://archive.softwareheritage.org/${file.swhid}` : "";
  const repository = /^https:\/\/[\w.-]+\/[\w./~-]+$/.test(file.repository) ? file.repository : "";
  const rows = [
    ["Repository", linked(file.repository, repository)],
    ["Commit", file.commit && make("code", file.commit)],
    ["Language", make("b", file.language)],
    ["Licence", licence(file)],
    ["Identity", linked(file.swhid, heritage)],
    ["Use", `${file.split === "held_out" ? "held out, never trained on" : "training"}, ${file.kind}`],
  ];
  return rows.filter(([, value]) => value).flatMap(([label, value]) => {
    const cell = make("dd");
    cell.append(value);
    return [make("dt", label), cell];
  });
}

function licence(file) {
  const cell = document.createDocumentFragment();
  cell.append(make("b", file.license || "none found"));
  if (file.license_evidence) cell.append(make("span", ` from ${file.license_evidence}`));
  return cell;
}

function linked(text, url) {
  return url ? make("a", text, { href: url, rel: "noopener noreferrer", target: "_blank" }) : make("code", text);
}

function showText(file) {
  const marks = [];
  let text = "";
  for (const segment of file.segments) {
    const [kind, part] = typeof segment === "string" ? ["", segment] : segment;
    if (kind) marks.push({ start: text.length, end: text.length + part.length, kind });
    text += part;
  }
  byId("code").replaceChildren(...pieces(text, marks, tokens(text, file.language)));
  if (file.left_out) {
    byId("code").append(document.createElement("br"), make("mark", `${file.left_out.toLocaleString("en")} more characters are not shown`, { className: "end" }));
  }
  const count = text.split("\n").length - (text.endsWith("\n") ? 1 : 0);
  byId("lines").textContent = Array.from({ length: count }, (_, line) => line + 1).join("\n");
  byId("text").scrollTo(0, 0);
}

/** The text as nodes: coloured where a token is, marked where a mark is, and a mark wins. */
function* pieces(text, marks, coloured) {
  let done = 0;
  let mark = 0;
  for (const token of [...coloured, { start: text.length, end: text.length, kind: "" }]) {
    if (token.start > done) yield* plain("", done, token.start);
    if (token.end > done) yield* plain(token.kind, done, token.end);
  }

  function* plain(kind, start, end) {
    done = end;
    while (mark < marks.length && marks[mark].start < end) {
      const { start: from, end: to, kind: name } = marks[mark++];
      if (from > start) yield node(kind, text.slice(start, from));
      yield make("mark", text.slice(from, to), { className: name });
      start = done = Math.max(to, start);
    }
    done = Math.max(done, end);
    if (start < end) yield node(kind, text.slice(start, end));
  }

  function node(kind, part) {
    return kind ? make("span", part, { className: kind }) : document.createTextNode(part);
  }
}

// ---- colours: what comments, strings and numbers look like in a family of languages; no parser

const END = "(?![\\s\\S])";
const COMMENTS = {
  slash: `//[^\\n]*|/\\*[\\s\\S]*?(?:\\*/|${END})`,
  hash: "#[^\\n]*",
  dash: `--[^\\n]*|/\\*[\\s\\S]*?(?:\\*/|${END})`,
  percent: "%[^\\n]*",
  semicolon: ";[^\\n]*",
  markup: `<!--[\\s\\S]*?(?:-->|${END})`,
};
const FAMILIES = {
  slash: "C C++ C# CSS Cuda D Dart Go Groovy Java JavaScript JSON5 Kotlin Less Metal Objective-C PHP Protocol_Buffer Rust Scala SCSS Solidity Swift TSX TypeScript Verilog WebAssembly Zig",
  hash: "Awk Cython CMake CoffeeScript Crystal Dockerfile Elixir GraphQL HCL Julia Makefile Nim Nix Perl PowerShell Python R Ruby Shell Starlark Tcl TOML YAML",
  dash: "Ada Elm Haskell Lua PLSQL PLpgSQL SQL VHDL",
  percent: "Erlang MATLAB Prolog TeX",
  semicolon: "Assembly Clojure Common_Lisp Emacs_Lisp INI Racket Scheme",
  markup: "HTML SVG Svelte Vue XML",
};
const FAMILY_OF = new Map(
  Object.entries(FAMILIES).flatMap(([family, names]) => names.split(" ").map((name) => [name.replaceAll("_", " "), family])),
);
const KEYWORDS = new Set(
  ("abstract and as assert async await begin bool boolean break case catch char class const continue declare def default defer del do double elif else elsif end enum except export extends extern false False " +
    "final finally float fn for foreach from func function global goto if impl implements import in include inline instanceof int interface is lambda let local long loop match mod module mut namespace new nil None nonlocal not null nullptr " +
    "or package pass private protected pub public raise readonly require return self short signed sizeof static struct super switch template then this throw throws trait true True try type typedef typename typeof undefined union unless unsigned until use using var virtual void volatile when where while with yield").split(" "),
);
const PROSE = new Set(["Markdown", "Text", "reStructuredText", "CSV", "Diff"]);

function patternOf(language) {
  const family = FAMILY_OF.get(language);
  const triple = language === "Python" || language === "Cython" ? `"""[\\s\\S]*?(?:"""|${END})|'''[\\s\\S]*?(?:'''|${END})|` : "";
  const quoted = `"(?:\\\\.|[^"\\\\\\n])*"|'(?:\\\\.|[^'\\\\\\n])*'` + (family === "slash" ? "|`(?:\\\\[\\s\\S]|[^`\\\\])*`" : "");
  const strings = family === "semicolon" ? `"(?:\\\\.|[^"\\\\\\n])*"` : triple + quoted;
  return new RegExp(`(${COMMENTS[family] ?? END + "x"})|(${strings})|\\b(0[xX][\\da-fA-F_]+|\\d[\\d_.]*)|([A-Za-z_$][\\w$]*)`, "g");
}

function* tokens(text, language) {
  if (PROSE.has(language)) return;
  const family = FAMILY_OF.get(language);
  for (const match of text.matchAll(patternOf(language))) {
    const [whole, comment, string, number] = match;
    const kind = comment ? "comment" : string ? "string" : number ? "number" : family !== "markup" && KEYWORDS.has(whole) ? "keyword" : "";
    if (kind) yield { start: match.index, end: match.index + whole.length, kind };
  }
}

// ---- start

for (const id of ["words", "language", "license", "redacted"]) byId(id).addEventListener("input", filter);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input[type=search], select");
  const reading = event.target === byId("text");
  if (event.key === "Escape" && typing) {
    byId("words").value = "";
    filter();
    list.focus();
  } else if (event.key === "/" && !typing) byId("words").focus();
  else if (event.key === "j" && !typing) step(1);
  else if (event.key === "k" && !typing) step(-1);
  else if (event.key === "ArrowDown" && !reading && event.target.tagName !== "SELECT") step(1);
  else if (event.key === "ArrowUp" && !reading && event.target.tagName !== "SELECT") step(-1);
  else if (event.key === "Home" && event.target === list) step(-files.length);
  else if (event.key === "End" && event.target === list) step(files.length);
  else return;
  event.preventDefault();
});

fillChoice("language", "language", "unknown");
fillChoice("license", "license", "none found");
list.append(...items);
const asked = Number(location.hash.slice(1)) - 1;
if (files[asked]) current = asked;
filter();
if (files[asked]) open(asked);
