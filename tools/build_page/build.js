// npm packages -> one committed file that the page loads offline, and the licence notices of everything in it.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";

const out = join(import.meta.dirname, "../../src/starsmith/serving/page/vendor");

const { metafile } = await build({
  entryPoints: [join(import.meta.dirname, "entry.js")],
  absWorkingDir: import.meta.dirname,
  outfile: join(out, "codemirror.js"),
  bundle: true,
  format: "esm",
  target: "es2022",
  minify: true,
  legalComments: "none",
  metafile: true,
  banner: { js: "/* CodeMirror 6 and its parsers, MIT licence: see LICENSE. Made by tools/build_page; do not edit. */" },
});

const folders = Object.keys(metafile.inputs)
  .map((path) => path.match(/^node_modules\/((?:@[^/]+\/)?[^/]+)\//)?.[1])
  .filter(Boolean);
const notices = [...new Set(folders)].sort().map((name) => {
  const folder = join(import.meta.dirname, "node_modules", name);
  const { version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
  if (license !== "MIT" || !file) throw new Error(`${name}: licence ${license}, file ${file}; wanted an MIT notice`);
  return `${name} ${version}\n\n${readFileSync(join(folder, file), "utf8").trim()}\n`;
});
writeFileSync(join(out, "LICENSE"), `codemirror.js is a bundle of these packages.\n\n${notices.join("\n----\n\n")}`);
