// Bundles the terminal with xterm.js. The first line of what comes out names the digest of what went in: a test compares.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { build } from "esbuild";

const here = new URL(".", import.meta.url);
const digest = createHash("sha256");
for (const name of ["terminal.js", "package.json"]) digest.update(readFileSync(new URL(name, here)));

await build({
  entryPoints: [new URL("terminal.js", here).pathname],
  outfile: new URL("../dockermagic/notebook/static/terminal.js", here).pathname,
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  loader: { ".css": "text" },
  legalComments: "inline",
  banner: { js: `// ${digest.digest("hex")} of js/terminal.js and js/package.json, with xterm.js (MIT)` },
  logLevel: "info",
});
