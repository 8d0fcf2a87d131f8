// The web page of two instances on a real Kafka, which take up versions of their module: what one page shows of both, and
// what it changes. Run by `./mill test web`.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fitsPhone, forgive, opened, setting } from "./browser.mjs";

const [INPUT, OUTPUT] = ["group-input", "group-counts"];
const TOKEN = "a-token-of-this-test";
const directory = mkdtempSync(join(tmpdir(), "millrace-web."));
const instances = [];
let browser, page, errors;

const mill = (command, input = "") => execFileSync(setting("MILLRACE_TEST_MILL"), ["kafka", ...command], { input, stdio: ["pipe", "pipe", "inherit"] });

/** A port that is free at the addresses of all instances. */
async function freePort() {
  const server = createServer().listen(0, "127.0.0.2");
  await once(server, "listening");
  const { port } = server.address();
  await new Promise((closed) => server.close(closed));
  return port;
}

/** An instance called by the last number of its address, so that `http.peers` leads to it. */
function configured(instance, port) {
  const file = join(directory, `${instance}.toml`);
  writeFileSync(join(directory, "token"), TOKEN + "\n");
  writeFileSync(file, `
application.id = "group-app"
group.instance.id = "${instance}"
module.source = "uploaded"
module.env = ["COUNTS_INPUT", "COUNTS_OUTPUT", "COUNTS_MODE"]
faults.policy = "skip"
commit.interval.ms = 200
state.dir = "${join(directory, "state-" + instance)}"
http.listen = "127.0.0.${instance}:${port}"
http.peers = "127.0.0.{instance}:${port}"
http.token.file = "${join(directory, "token")}"
kafka.bootstrap.servers = "${setting("MILLRACE_TEST_KAFKA")}"
`);
  return [["-c", file], { env: { COUNTS_INPUT: INPUT, COUNTS_OUTPUT: OUTPUT, COUNTS_MODE: "faults" } }];
}

before(async () => {
  for (const topic of [INPUT, OUTPUT]) mill(["create", topic, "4"]);
  const module = join(setting("MILLRACE_TEST_WASM"), "guest_counts.wasm");
  const port = await freePort();
  const [first, options] = configured(2, port);
  execFileSync(setting("MILLRACE_TEST_BIN"), ["module", "push", module, ...first, "--note", "the first one"], { ...options, stdio: "inherit" });
  for (const instance of [2, 3]) {
    const [config, options] = configured(instance, port);
    const child = spawn(setting("MILLRACE_TEST_BIN"), ["run", ...config], { ...options, stdio: ["ignore", "inherit", "pipe"] });
    child.said = "";
    child.stderr.on("data", (text) => (child.said += text));
    instances.push(child);
    while (!child.said.includes("serving HTTP")) {
      await Promise.race([once(child.stderr, "data"), once(child, "exit")]);
      assert.equal(child.exitCode, null, child.said);
    }
  }
  // A second version is the same component with one more section.
  writeFileSync(join(directory, "second.wasm"), Buffer.concat([readFileSync(module), Buffer.from("\0\x03\x01v2", "latin1")]));
  ({ browser, page, errors } = await opened(`http://127.0.0.2:${port}/`));
});

after(async () => {
  await browser?.close();
  for (const instance of instances) {
    if (instance.exitCode === null) {
      instance.kill("SIGTERM");
      await once(instance, "exit");
    }
  }
  rmSync(directory, { recursive: true });
});

const tasksShow = (expected) =>
  page.waitForFunction((expected) => {
    const rows = [...document.querySelectorAll("#tasks tbody tr")];
    const at = (row, column) => row.querySelector(`[data-column=${column}]`).textContent;
    const running = rows.filter((row) => at(row, "State") === "RUNNING");
    const records = rows.reduce((all, row) => all + Number(at(row, "Records")), 0);
    return running.length === 4 && records === expected && new Set(rows.map((row) => at(row, "Instance"))).size === 2;
  }, expected);

test("the tasks of both instances are shown", async () => {
  // A task that moves begins to count anew, so they are where they belong before there is something to count.
  await tasksShow(0);
  mill(["produce", INPUT], "foo:1\nfoo:2\nbar:1\nhello:1\n");
  await tasksShow(4);
  const states = await page.locator("#instances [data-column=State]").allTextContents();
  assert.deepEqual(states, ["RUNNING", "RUNNING"]);
});

test("who has no token changes nothing", async () => {
  await page.waitForSelector("#modules [data-version='1']");
  await page.fill("#token", "guessed");
  await page.setInputFiles("#component", join(directory, "second.wasm"));
  await page.click("#push button[type=submit]");
  await page.waitForFunction(() => document.querySelector("#change").textContent.includes("token"));
  assert.equal(await page.locator("#modules tbody tr").count(), 1);
  forgive(errors, "401");
});

const runsAt = (version, instances) =>
  page.waitForFunction(
    ([version, instances]) => document.querySelector(`#modules [data-version='${version}'] [data-column='Runs at']`)?.textContent === instances,
    [version, instances],
  );

test("a version is pushed, and taken back", async () => {
  await runsAt(1, "2, 3");
  await page.fill("#token", TOKEN);
  await page.fill("#note", "the <i>second</i> one");
  await page.click("#push button[type=submit]");
  await runsAt(2, "2, 3");
  const row = await page.innerText("#modules [data-version='2']");
  assert.ok(row.includes("the <i>second</i> one") && row.includes("active"), row);
  await page.click("#roll-back");
  await runsAt(1, "2, 3");
  await page.click("#modules [data-version='2'] button");
  await runsAt(2, "2, 3");
});

test("what the module writes at the other instance is shown", async () => {
  const cursed = [..."abcdefgh"].map((key) => `${key}:err\n`);
  mill(["produce", INPUT], cursed.join(""));
  const tasks = await page.locator("#tasks tr:has([data-column=Instance]:text-is('3')) [data-column=Task]").allTextContents();
  assert.equal(tasks.length, 2);
  await page.selectOption("#log-instance", "3");
  await page.waitForSelector("#log tbody tr");
  const found = await page.locator("#log [data-column=Task]").allTextContents();
  assert.ok(found.every((task) => tasks.includes(task)), `${found} among ${tasks}`);
  if (process.env.MILLRACE_TEST_SCREENSHOT) await page.screenshot({ path: process.env.MILLRACE_TEST_SCREENSHOT, fullPage: true });
});

test("it can be read on a phone", () => fitsPhone(page));

test("the token is nowhere but in its field", async () => {
  const kept = await page.evaluate(() => [document.cookie, JSON.stringify(localStorage), JSON.stringify(sessionStorage), location.href].join());
  assert.ok(!kept.includes(TOKEN), kept);
  assert.equal(await page.getAttribute("#token", "type"), "password");
});

test("an instance that is gone is named, and the others are shown", async () => {
  // The group could not be asked while it came into being.
  forgive(errors, "503");
  assert.deepEqual(errors, []);
  const [, other] = instances;
  other.kill("SIGKILL");
  await once(other, "exit");
  await page.waitForFunction(() => /error|refused|answer/.test(document.querySelector("#instances [data-instance='3']")?.textContent));
  assert.match(await page.innerText("#instances [data-instance='2']"), /RUNNING/);
});
