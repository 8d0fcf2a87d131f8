// The web page of a running instance in a real browser: clicks, what is shown, no errors. The instance is
// `millrace dev`, with the reference topology and a broker of its own. Run by `./mill test web`.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { fitsPhone, forgive, opened, setting } from "./browser.mjs";

let instance, browser, page, errors;

before(async () => {
  instance = spawn(setting("MILLRACE_TEST_BIN"), ["dev", "-c", setting("MILLRACE_TEST_CONFIG")], {
    env: { MILLRACE_MODULE_SOURCE: setting("MILLRACE_TEST_MODULE") },
    stdio: ["pipe", "ignore", "pipe"],
  });
  const address = await new Promise((resolve, reject) => {
    const said = [];
    createInterface({ input: instance.stderr }).on("line", (line) => {
      said.push(line);
      const found = line.match(/page on (http:\/\/[^\s,]+)/);
      if (found) resolve(found[1]);
    });
    instance.once("exit", () => reject(new Error(`the instance ended:\n${said.join("\n")}`)));
  });
  // Markup in a record is text on the page.
  for (const line of ["foo:1", "foo:2", "hello:1", "<img src=x onerror=alert(1)>:1"]) instance.stdin.write(line + "\n");
  for (let number = 0; number < 300; number++) instance.stdin.write(`many-${number}:x\n`);
  ({ browser, page, errors } = await opened(address));
});

after(async () => {
  await browser?.close();
  instance.stdin.end();
  if (instance.exitCode === null) await once(instance, "exit");
});

/** Asks until the table of entries is as it should be: what was fed is counted a moment later. */
async function asked(fill, expected) {
  for (;;) {
    await fill();
    await page.click("#ask");
    await page.waitForFunction(() => document.querySelector("#answer").textContent !== "");
    const rows = await page.locator("#entries tbody tr").allInnerTexts();
    if (expected(rows)) return rows;
    await page.waitForTimeout(200);
  }
}

test("tasks run and are counted", async () => {
  await page.waitForFunction(() => document.querySelector("#state").textContent === "RUNNING");
  assert.equal(await page.textContent("#application"), "counts-app");
  assert.equal(await page.locator("#tasks tbody tr").count(), 4);
  await page.waitForFunction(() => {
    const cells = [...document.querySelectorAll("#tasks tbody tr")].map((row) => Number(row.querySelector("[data-column=Records]").textContent));
    return cells.reduce((all, records) => all + records, 0) === 304;
  });
});

test("the topology is drawn", async () => {
  const labels = await page.locator("#topology svg g.node title").allTextContents();
  for (const label of ["input-topic", "counts-topic", "count-store"]) assert.ok(labels.includes(label), `${label} in ${labels}`);
});

test("a key is found", async () => {
  const rows = await asked(() => page.fill("#key", "foo"), (rows) => rows[0]?.includes("2"));
  assert.equal(rows.length, 1);
  assert.match(await page.textContent("#answer"), /^in task 0_\d$/);
  await page.fill("#key", "nobody");
  await page.click("#ask");
  await page.waitForFunction(() => document.querySelector("#answer").textContent.includes("there is no key nobody"));
  forgive(errors, "404");
});

test("entries are turned page by page, and are text", async () => {
  await page.fill("#key", "");
  await asked(() => page.fill("#prefix", "many-1"), (rows) => rows.length > 0);
  while (await page.isVisible("#more")) {
    const before = await page.textContent("#answer");
    await page.click("#more");
    await page.waitForFunction((before) => document.querySelector("#answer").textContent !== before, before);
  }
  // many-1, many-10 to many-19, many-100 to many-199
  assert.equal(await page.locator("#entries tbody tr").count(), 111);
  await page.fill("#prefix", "");
  await page.fill("#key", "<img src=x onerror=alert(1)>");
  await page.click("#ask");
  await page.waitForFunction(() => document.querySelector("#entries tbody tr td")?.textContent.startsWith("<img"));
  assert.equal(await page.locator("#entries img").count(), 0);
});

test("it can be read on a phone", () => fitsPhone(page));

test("nothing went wrong, and nobody else was asked", async () => {
  await page.fill("#key", "");
  await page.fill("#prefix", "");
  await page.click("#ask");
  await page.waitForFunction(() => document.querySelectorAll("#entries tbody tr").length > 10);
  assert.deepEqual(errors, []);
});
