/**
 * Builds ../page.html, the one file that the Python package ships: template, style and script in one,
 * with a hole for the data. `node build.mjs --check` says whether that file is what these sources
 * build to; its exit code is 1 if not.
 */

import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const PAGE = here("../page.html");
const LIBRARIES = ["color", "dispatch", "drag", "ease", "interpolate", "quadtree", "selection", "timer", "transition", "zoom"];

const hash = (text) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;

async function bundle(entry, options) {
  const { outputFiles } = await build({
    entryPoints: [here(entry)],
    bundle: true,
    minify: true,
    write: false,
    // Any charset reads it right; `licenses` speaks for the libraries.
    charset: "ascii",
    legalComments: "none",
    ...options,
  });
  return outputFiles[0].text.trim();
}

async function licenses() {
  const texts = new Map();
  for (const name of LIBRARIES) {
    const text = (await readFile(here(`node_modules/d3-${name}/LICENSE`), "utf8")).trim();
    texts.set(text, [...(texts.get(text) ?? []), `d3-${name}`]);
  }
  return [...texts].map(([text, names]) => `/*! ${names.join(", ")}:\n${text}\n*/`).join("\n");
}

async function page() {
  const code = await bundle("src/main.ts", { format: "iife", target: "es2022" });
  const script = `${await licenses()}\n${code}\n`;
  const style = `${await bundle("style/style.css", { target: "es2022" })}\n`;
  const icon = (await readFile(here("icon.svg"), "utf8")).trim();
  const policy = [
    "default-src 'none'",
    `script-src ${hash(script)}`,
    `style-src ${hash(style)}`,
    "img-src data:",
    "base-uri 'none'",
    "form-action 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join("; ");
  const parts = { policy, icon: `data:image/svg+xml,${encodeURIComponent(icon)}`, style, script };
  const template = await readFile(here("template.html"), "utf8");
  return template.replace(/\{\{(\w+)\}\}/g, (hole, name) => parts[name] ?? hole);
}

const built = await page();
if (!process.argv.includes("--check")) {
  await writeFile(PAGE, built);
} else if ((await readFile(PAGE, "utf8")) !== built) {
  console.error("explorer/page.html is not what explorer/web builds to: run npm run build there");
  process.exitCode = 1;
}
