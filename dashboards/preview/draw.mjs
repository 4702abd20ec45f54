// Draws dashboards as pictures: node draw.mjs --help. See README.md for what this is, and is not.

import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { build } from "esbuild";
import puppeteer from "puppeteer-core";

import { answers, fill, variables } from "./queries.mjs";

const HERE = path.dirname(fileURLToPath(import.meta.url));
const HELP = `node draw.mjs --prometheus http://127.0.0.1:9090 [options] [DASHBOARD.json ...]
  --out DIR        where the pictures go (default: out)
  --widths LIST    widths in pixels (default: 400,1400,3840)
  --hours N        how much time is shown (default: 6)
  --to SECONDS     the end, in Unix time (default: now)
  --scrape N       the scrape interval in seconds (default: 15)
  --set NAME=VALUE a variable's value; may be repeated
  --light          the light theme
  --chromium PATH  the browser (default: /usr/bin/chromium)`;

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    prometheus: { type: "string" },
    out: { type: "string", default: "out" },
    widths: { type: "string", default: "400,1400,3840" },
    hours: { type: "string", default: "6" },
    to: { type: "string" },
    scrape: { type: "string", default: "15" },
    set: { type: "string", multiple: true, default: [] },
    light: { type: "boolean", default: false },
    chromium: { type: "string", default: "/usr/bin/chromium" },
    help: { type: "boolean", default: false },
  },
});
if (options.help || !options.prometheus || positionals.length === 0) {
  console.log(HELP);
  process.exit(options.help ? 0 : 2);
}

/** The code editor is no part of a dashboard, and by far the largest part of @grafana/ui. */
const withoutEditor = {
  name: "without-editor",
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^(monaco-editor|react-monaco-editor|@monaco-editor)/ }, ({ path: name }) => ({ path: name, namespace: "nothing" }));
    onLoad({ filter: /.*/, namespace: "nothing" }, () => ({ contents: "module.exports = {}" }));
  },
};

/** The page's script and style. */
async function bundle() {
  const { outputFiles } = await build({
    entryPoints: [path.join(HERE, "page.jsx")],
    bundle: true,
    write: false,
    outdir: "page",
    minify: true,
    plugins: [withoutEditor],
    format: "iife",
    jsx: "automatic",
    define: { "process.env.NODE_ENV": '"production"', global: "window" },
    loader: { ".svg": "text", ".woff2": "empty", ".ttf": "empty", ".png": "empty" },
    logLevel: "error",
  });
  return Object.fromEntries(outputFiles.map((file) => [path.extname(file.path).slice(1), file.text]));
}

/** The page, its bundle, and Grafana's icons from the package, over loopback. */
async function serve({ js, css }) {
  const icons = path.join(HERE, "node_modules/@grafana/ui/dist/public");
  const server = createServer(async (request, response) => {
    const where = new URL(request.url, "http://x").pathname;
    if (where === "/") {
      response.setHeader("content-type", "text/html; charset=utf-8");
      response.end(`<!doctype html><meta charset="utf-8"><style>${css} body { margin: 0 }</style><body><div id="root"></div><script src="/page.js"></script>`);
    } else if (where === "/page.js") {
      response.setHeader("content-type", "text/javascript; charset=utf-8");
      response.end(js);
    } else {
      const file = path.join(icons, path.normalize(where.replace(/^\/public/, "")));
      const content = file.startsWith(icons) ? await readFile(file).catch(() => null) : null;
      response.statusCode = content ? 200 : 404;
      if (where.endsWith(".svg")) response.setHeader("content-type", "image/svg+xml");
      response.end(content ?? "");
    }
  });
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  return server;
}

/** How many tables have no rows in the page. */
function bareTables() {
  return [...document.querySelectorAll("[data-table]")].filter((table) => !table.querySelector('[role="row"]')).length;
}

/** Wait until the page has not changed for a second, at most twenty. */
async function settled(page) {
  let before = -1;
  for (let turn = 0; turn < 20; turn += 1) {
    await new Promise((done) => setTimeout(done, 1000));
    const now = await page.evaluate(() => document.body.innerHTML.length);
    if (now === before) return;
    before = now;
  }
}

const scrape = Number(options.scrape);
const server = await serve(await bundle());
const browser = await puppeteer.launch({
  executablePath: options.chromium,
  args: ["--no-sandbox", "--disable-gpu", "--force-color-profile=srgb", "--font-render-hinting=none"],
});
let failures = 0;
try {
  await mkdir(options.out, { recursive: true });
  for (const file of positionals) {
    const dashboard = JSON.parse(await readFile(file, "utf8"));
    const values = variables(dashboard, Object.fromEntries(options.set.map((one) => one.split(/=(.*)/s).slice(0, 2))));
    const to = options.to ? Number(options.to) : Math.floor(Date.now() / 1000);
    const from = to - Number(options.hours) * 3600;
    for (const width of options.widths.split(",").map(Number)) {
      const panels = dashboard.panels.flatMap((panel) => [panel, ...(panel.panels ?? [])]);
      const data = {};
      for (const panel of panels) {
        try {
          data[panel.id] = await answers(panel, { url: options.prometheus, from, to, width, scrape, values });
        } catch (error) {
          failures += 1;
          console.error(`${dashboard.uid}, ${panel.title}: ${error.message}`);
        }
      }
      const page = await browser.newPage();
      page.on("pageerror", (error) => { failures += 1; console.error(`${dashboard.uid}: ${error.message}`); });
      await page.setViewport({ width, height: 900, deviceScaleFactor: 1 });
      await page.evaluateOnNewDocument((given) => { window.given = given; }, {
        dashboard: { ...dashboard, panels: panels.map((panel) => ({ ...panel, title: fill(panel.title ?? "", values) })) },
        data, values, from: from * 1000, to: to * 1000, width, dark: !options.light,
      });
      await page.goto(`http://127.0.0.1:${server.address().port}/`);
      await page.waitForFunction("window.drawn === true", { timeout: 20000 }).catch(() => { failures += 1; console.error(`${dashboard.uid}: not drawn`); });
      // Tables draw only what can be seen: make all of the page visible before the picture is taken.
      const height = await page.evaluate(() => document.documentElement.scrollHeight);
      await page.setViewport({ width, height, deviceScaleFactor: 1 });
      await settled(page);
      // A table that was measured too early draws nothing until its size changes.
      for (let turn = 0; turn < 3 && (await page.evaluate(bareTables)); turn += 1) {
        for (const by of [-2, 0]) await page.setViewport({ width: width + by, height, deviceScaleFactor: 1 });
        await settled(page);
      }
      if (await page.evaluate(bareTables)) { failures += 1; console.error(`${dashboard.uid}: a table is not drawn`); }
      const empty = await page.evaluate(() => window.emptyPanels ?? []);
      const picture = path.join(options.out, `${dashboard.uid}-${width}.png`);
      await page.screenshot({ path: picture, fullPage: true });
      await page.close();
      console.log(`${picture}${empty.length ? `  empty: ${empty.join(", ")}` : ""}`);
    }
  }
} finally {
  await browser.close();
  server.close();
}
process.exitCode = failures ? 1 : 0;
