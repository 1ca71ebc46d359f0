// Writes the data files of src/starsmith/corpus/data/ from three npm packages:
//   npm install --prefix .bench/corpus-data linguist-languages@9.5.0 spdx-license-list@6.12.0 @blueoak/list@15.0.0
//   node tools/make_corpus_data.mjs .bench/corpus-data/node_modules
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { gzipSync } from "node:zlib";

const modules = resolve(process.argv[2]);
const out = resolve("src/starsmith/corpus/data");

const linguist = await import(join(modules, "linguist-languages/index.js"));
const languages = Object.values(linguist)
  .map(({ name, type, extensions = [], filenames = [], interpreters = [] }) => ({
    name, type, extensions, filenames, interpreters,
  }))
  .sort((one, other) => (one.name < other.name ? -1 : 1));
writeFileSync(join(out, "languages.json"), JSON.stringify(languages).replaceAll('},{"name"', '},\n{"name"') + "\n");

const folder = join(modules, "spdx-license-list/licenses");
const licenses = {};
for (const file of readdirSync(folder).filter((name) => name.endsWith(".json")).sort()) {
  licenses[file.slice(0, -5)] = JSON.parse(readFileSync(join(folder, file), "utf8")).licenseText;
}
// mtime 0 in the gzip header, so that the same input gives the same file
writeFileSync(join(out, "licenses.json.gz"), gzipSync(JSON.stringify(licenses), { level: 9 }));

// Younger SPDX ids than that list, and variants in wording of licences on it; each read by us.
const ours = ["HPND-SMC", "HPND-sell-variant", "Python-2.0.1", "Unicode-3.0"];
const ratings = JSON.parse(readFileSync(join(modules, "@blueoak/list/index.json"), "utf8"));
const lines = ratings.flatMap(({ name, licenses: rated }) => [`# Blue Oak Council: ${name}`, ...rated.map(({ id }) => id)]);
writeFileSync(join(out, "permissive.txt"), [...lines, "# ours", ...ours].join("\n") + "\n");
console.log(`${languages.length} languages, ${Object.keys(licenses).length} licences`);
