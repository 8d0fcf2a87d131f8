// An instance on a real Kafka: what its page shows of a module that writes lines, and what it answers to strange
// questions. Run by `./mill test web`.
import assert from "node:assert/strict";
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fitsPhone, opened, setting } from "./browser.mjs";

const directory = mkdtempSync(join(tmpdir(), "millrace-web."));
let instance, browser, page, errors;

const mill = (command, input = "") => execFileSync(setting("MILLRACE_TEST_MILL"), ["kafka", ...command], { input, stdio: ["pipe", "pipe", "inherit"] });

before(async () => {
  for (const topic of ["input-topic", "counts-topic"]) mill(["create", topic, "4"]);
  const config = join(directory, "web.toml");
  // Its module does what records say, here: to refuse them with a line on its standard output.
  writeFileSync(config, `
application.id = "web-app"
module.source = "${join(setting("MILLRACE_TEST_WASM"), "guest_counts.wasm")}"
module.env = ["COUNTS_MODE"]
faults.policy = "skip"
commit.interval.ms = 200
state.dir = "${join(directory, "state")}"
http.listen = "127.0.0.1:0"
kafka.bootstrap.servers = "${setting("MILLRACE_TEST_KAFKA")}"
`);
  instance = spawn(setting("MILLRACE_TEST_BIN"), ["run", "-c", config], { env: { COUNTS_MODE: "faults" }, stdio: ["ignore", "inherit", "pipe"] });
  let said = "";
  const address = await new Promise((resolve, reject) => {
    instance.stderr.on("data", (text) => {
      said += text;
      const found = said.match(/serving HTTP.* address=(\S+)/);
      if (found) resolve(`http://${found[1]}/`);
    });
    instance.once("exit", () => reject(new Error(`the instance ended:\n${said}`)));
  });
  // Markup in a record is text on the page.
  mill(["produce", "input-topic"], "foo:1\nfoo:2\n<b>cursed</b>:err\n");
  ({ browser, page, errors } = await opened(address));
});

after(async () => {
  await browser?.close();
  if (instance.exitCode === null) {
    instance.kill("SIGTERM");
    await once(instance, "exit");
  }
  rmSync(directory, { recursive: true });
});

test("what the module writes is shown", async () => {
  await page.waitForFunction(() => document.querySelector("#state").textContent === "RUNNING");
  await page.waitForSelector("#log tbody tr");
  const lines = await page.locator("#log [data-column=Line]").allTextContents();
  assert.ok(lines.includes("<b>cursed</b> comes to 1"), lines.join("\n"));
  assert.equal(await page.locator("#log b").count(), 0, "a record became markup");
});

test("it can be read on a phone", () => fitsPhone(page));

/** The same questions each time. */
test("every answer is one that the OpenAPI document describes", async () => {
  const checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";
  const options = ["--phases", "coverage", "--seed", "1", "--checks", checks, "--no-color"];
  // It leaves a cache where it runs.
  const run = spawnSync(setting("MILLRACE_TEST_SCHEMATHESIS"), ["run", page.url() + "v1/openapi.json", ...options], { cwd: directory, encoding: "utf8" });
  assert.equal(run.status, 0, run.stdout + run.stderr);
  const asked = await (await fetch(page.url() + "v1/openapi.json")).json();
  const tested = run.stdout.match(/Tested: (\d+)/);
  assert.equal(Number(tested?.[1]), Object.values(asked.paths).flatMap(Object.keys).length, run.stdout);
});

test("nothing went wrong, and nobody else was asked", async () => {
  await page.click("#ask");
  await page.waitForFunction(() => document.querySelectorAll("#entries tbody tr").length > 0);
  assert.deepEqual(errors, []);
});
