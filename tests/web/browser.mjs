// A page of an instance in a headless Chromium, and what goes wrong on it.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

export const setting = (name) => process.env[name] ?? assert.fail(`${name} is not set: run these tests with ./mill test web`);

/** The page, its browser, and the errors it has had, which include questions to anybody else. */
export async function opened(address) {
  const { chromium } = createRequire(setting("MILLRACE_TEST_NODE_MODULES"))("playwright-core");
  const options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
  const browser = await chromium.launch({ executablePath: setting("MILLRACE_TEST_CHROMIUM"), args: options });
  const page = await browser.newPage({ viewport: { width: 1100, height: 900 } });
  const errors = [];
  // For anything that takes seconds on an idle machine.
  page.setDefaultTimeout(90_000);
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("request", (request) => request.url().startsWith(address) || request.url().startsWith("data:") || errors.push(`asked ${request.url()}`));
  page.on("dialog", (dialog) => dialog.accept());
  await page.goto(address);
  return { browser, page, errors };
}

/** Refusals that a test asks for are errors in the console, too. */
export const forgive = (errors, status) => errors.splice(0, errors.length, ...errors.filter((error) => !error.includes(status)));

/** On a phone, nothing is wider than its screen. */
export async function fitsPhone(page) {
  const before = page.viewportSize();
  await page.setViewportSize({ width: 390, height: 844 });
  const [wide, screen] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  const tables = await page.locator(".scroll:not(#topology)").evaluateAll((all) => all.map((one) => [one.scrollWidth, one.clientWidth]));
  await page.setViewportSize(before);
  assert.ok(wide <= screen, `${wide} pixels on a screen of ${screen}`);
  for (const [needed, there] of tables) assert.ok(needed <= there, `a table of ${needed} pixels in ${there}`);
}
