// Prints dashboards as TypeScript: `node typed.mjs FILE.json...`. Each panel is a literal of its own, so that tsc names it.
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const lines = [readFileSync(join(here, "typed.ts"), "utf8")];
for (const file of process.argv.slice(2)) {
  const { panels, ...frame } = JSON.parse(readFileSync(file, "utf8"));
  const name = frame.uid.replace(/[^a-z]/g, "_");
  lines.push(`export const ${name}: Frame = ${JSON.stringify(frame, null, 1)};`);
  for (const panel of panels) {
    lines.push(`// ${frame.title}: ${panel.title}`);
    lines.push(`export const ${name}_${panel.id}: AnyPanel = ${JSON.stringify(panel, null, 1)};`);
  }
}
console.log(lines.join("\n"));
