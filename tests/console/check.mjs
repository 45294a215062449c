// Drives the console in a real Chromium as a person would, with and without a mouse, and writes what it looks like to a folder.
//
// node check.mjs URL TOKEN FOLDER. What the daemon is to do meanwhile is asked of tests/ops_console.rs: a line `@word` on standard
// output, answered by a line on standard input. The first thing that is not as it should be ends it.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { mkdirSync } from "node:fs";
import { createInterface } from "node:readline";

const { chromium } = createRequire(`${process.env.NODE_PATH}/`)("playwright-core");
const [url, token, folder] = process.argv.slice(2);
const SOON = 60_000;
const SECTIONS = ["Overview", "Anomalies", "Models", "Partitions", "Configuration", "Health"];

const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
async function ask(word) {
  console.log(`@${word}`);
  assert.equal((await answers.next()).value, "ok");
}

mkdirSync(folder, { recursive: true });
const executablePath = process.env.STRAYD_CHROMIUM ?? "/usr/bin/chromium";
const quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic", "--no-first-run"];
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", ...quiet] });
const context = await browser.newContext({ viewport: { width: 1200, height: 900 }, colorScheme: "light", locale: "en-GB" });
const page = await context.newPage();
page.setDefaultTimeout(SOON);

const wrong = [];
const elsewhere = [];
page.on("pageerror", (error) => wrong.push(String(error)));
page.on("console", (message) => {
  // That a request is refused, or finds nobody, is part of the play.
  if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) wrong.push(message.text());
});
page.on("request", (request) => !request.url().startsWith(url) && elsewhere.push(request.url()));
await page.addInitScript(() => {
  window.violations = [];
  document.addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
});

const shoot = (name) => page.screenshot({ path: `${folder}/${name}.png`, fullPage: false });
const link = (name) => page.getByRole("navigation").getByRole("link", { name: new RegExp(`^${name}`) });
const go = (name) => link(name).click();
const section = (name) => page.getByRole("region", { name });
const status = async () => (await fetch(`${url}/api/v1/status`)).json();
async function until(what, holds) {
  const deadline = Date.now() + SOON;
  for (;;) {
    if (await holds()) return;
    assert.ok(Date.now() < deadline, `in vain waited for: ${what}`);
    await new Promise((done) => setTimeout(done, 100));
  }
}

// Before there is anything to show.
await page.goto(url);
await page.getByRole("status").filter({ hasText: "warmup" }).waitFor();
assert.match(await section("Overview").innerText(), /history|records/);
await shoot("empty-overview");
await go("Anomalies");
await page.getByText("None since this process started").waitFor();
await shoot("empty-anomalies");
await go("Models");
await page.getByText("No model yet").waitFor();

await ask("history");
await page.getByRole("status").filter({ hasText: "scoring" }).waitFor();
await go("Overview");
await page.getByRole("img", { name: /^Score over threshold: .* now/ }).waitFor();
await ask("faults");
await page.locator(".chart .high").first().waitFor();
const fresh = page.locator("#n-new");
await fresh.waitFor();
assert.match(await fresh.innerText(), /^[1-9]/, "how many are new is said beside the name of the list");
await page.getByText("Records a second").first().waitFor();
await until("enough of a line to look at", async () => (await page.locator("#chart-score .line").getAttribute("d")).length > 50);
await shoot("overview");

// An anomaly, without a mouse.
await link("Anomalies").focus();
await page.keyboard.press("Enter");
const list = section("Anomalies");
const first = list.locator("details.item").first();
await first.locator("> summary").focus();
await page.keyboard.press("Enter");
await list.getByRole("table", { name: "What was measured, and what was expected" }).waitFor();
assert.ok((await list.getByRole("columnheader").allInnerTexts()).join().includes("Actual,Expected"));
assert.ok((await list.getByRole("meter").count()) > 0);
await page.keyboard.press("Tab");
assert.equal(await page.evaluate(() => document.activeElement.textContent), "Ordinary");
await shoot("anomalies");

// Markup in a record is text.
const strange = list.locator("details.item", { hasText: "<img src=x" }).first();
await strange.waitFor();
assert.equal(await list.locator("img").count(), 0);

// What it really was; the token is asked for once.
await first.getByRole("button", { name: "Ordinary" }).click();
const dialog = page.getByRole("dialog", { name: "Token needed" });
await dialog.waitFor();
await shoot("token");
await page.keyboard.type("wrong");
await page.keyboard.press("Enter");
await until("the wrong token to be refused", async () => (await dialog.isVisible()) && (await page.getByRole("textbox", { name: "Token" }).inputValue()) === "");
await page.getByRole("textbox", { name: "Token" }).fill(token);
await dialog.getByRole("button", { name: "Use it" }).click();
await page.getByText(/Noted as ordinary/).waitFor();
assert.equal(await first.getByRole("button", { name: "Ordinary" }).getAttribute("aria-pressed"), "true");
await first.getByRole("textbox").fill("filter was changed");
await first.getByRole("button", { name: "Expected" }).click();
await page.getByText(/Noted as expected/).waitFor();
assert.equal(await first.getByRole("button", { name: "Ordinary" }).getAttribute("aria-pressed"), "false");

// A pattern gets a name, by keyboard.
await first.getByRole("button", { name: /^Rename pattern/ }).first().focus();
await page.keyboard.press("Enter");
await page.keyboard.type("pump start-up");
await page.keyboard.press("Enter");
await first.getByText("pump start-up").waitFor();
const labels = async (version) => (await (await fetch(`${url}/api/v1/models/${version}`)).json()).latents.map((latent) => latent.label);
await until("the name in the model", async () => (await labels(1)).includes("pump start-up"));

// Another model, and back.
await go("Models");
const models = section("Models");
await models.getByRole("button", { name: "Retrain now" }).click();
await page.getByRole("dialog", { name: "Are you sure?" }).getByRole("button", { name: "Yes" }).click();
await until("a second model", async () => (await (await fetch(`${url}/api/v1/models`)).json()).length > 1);
await go("Overview");
await go("Models");
const other = models.locator("details.item").filter({ hasNotText: /\bscores\b/ }).first();
await other.locator("> summary").click();
const chosen = Number(await other.getAttribute("data-version"));
await models.getByRole("table", { name: /Patterns that it has learnt/ }).waitFor();
await shoot("models");
await models.getByRole("button", { name: `Promote version ${chosen}` }).click();
await page.keyboard.press("Escape");
assert.notEqual((await status()).model.version, chosen, "who has second thoughts changes nothing");
await models.getByRole("button", { name: `Promote version ${chosen}` }).click();
await page.getByRole("dialog").getByRole("button", { name: "Yes" }).click();
await until("the chosen model to score", async () => (await status()).model.version === chosen);

await go("Partitions");
await until("two partitions that are settled", async () => (await section("Partitions").getByRole("row").count()) === 3);
await go("Configuration");
await section("Configuration").getByText("topic", { exact: true }).first().waitFor();
await shoot("config");
await go("Health");
await section("Health").getByText("librdkafka").waitFor();
await shoot("health");

// Each section in a hand, in the light and in the dark.
const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
const light = await ground();
await page.emulateMedia({ colorScheme: "dark" });
assert.notEqual(await ground(), light);
await go("Overview");
await shoot("dark-overview");
await page.setViewportSize({ width: 390, height: 844 });
for (const name of SECTIONS) {
  await go(name);
  await section(name).waitFor();
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth) <= 390, `${name} is wider than 390 px`);
  await shoot(`narrow-${name.toLowerCase()}`);
}

// The daemon goes, and comes back.
await page.setViewportSize({ width: 1200, height: 900 });
await go("Anomalies");
await ask("stop");
const banner = page.getByRole("alert");
await banner.filter({ hasText: "Disconnected" }).waitFor();
assert.ok((await list.locator("details.item").count()) > 0, "what was shown stays");
await shoot("disconnected");
await ask("start");
await banner.waitFor({ state: "hidden" });
await page.getByRole("status").filter({ hasText: "scoring" }).waitFor();

assert.deepEqual(wrong, []);
assert.deepEqual(elsewhere, [], "everything comes from the daemon");
assert.deepEqual(await page.evaluate(() => window.violations), [], "the policy was kept");
// And it is one: a script within the page doesn't run.
await page.evaluate(() => {
  const script = document.createElement("script");
  try {
    script.textContent = "window.ran = true";
  } catch {}
  document.body.append(script);
});
await until("the policy to forbid a script", async () => (await page.evaluate(() => window.violations.length)) > 0);
assert.equal(await page.evaluate(() => window.ran), undefined);
await browser.close();
console.log("the console is as it should be");
process.exit(0);
