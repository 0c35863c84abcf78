// Bundles what a folder here holds into a module of the page. The first line of what comes out names the digest of what
// went in: a test compares.
import { createHash } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { build } from "esbuild";

const here = new URL(".", import.meta.url);

for (const [name, remark] of [["files", ""], ["terminal", ", with xterm.js (MIT)"]]) {
  const digest = createHash("sha256");
  const sources = readdirSync(new URL(name, here)).sort().map((one) => `${name}/${one}`);
  for (const one of [...sources, "package.json"]) digest.update(readFileSync(new URL(one, here)));
  await build({
    entryPoints: [new URL(`${name}/${name}.js`, here).pathname],
    outfile: new URL(`../dockermagic/notebook/static/${name}.js`, here).pathname,
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2022",
    loader: { ".css": "text" },
    legalComments: "inline",
    banner: { js: `// ${digest.digest("hex")} of js/${name} and js/package.json${remark}` },
    logLevel: "info",
  });
}
