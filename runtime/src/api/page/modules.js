// The versions of the module: what is active, what runs where, and changes for who has the token. The token is nowhere
// but in its field.
import { $, ask, element, fill, number } from "./element.js";

const when = (ms) => new Date(ms).toISOString().replace("T", " ").slice(0, 19);

function state(version, { active }) {
  if (version.version === active?.version) return active.canary ? `active on ${active.canary} tasks` : "active";
  if (version.rolled_back !== null) return "rolled back: " + version.rolled_back;
  return version.version === active?.previous ? "the one before" : "";
}

const columns = (known) => [
  ["Version", (one) => one.version],
  ["", (one) => state(one, known), "wrap"],
  ["Pushed", (one) => when(one.pushed_at_ms)],
  ["Note", (one) => one.note ?? "", "wrap"],
  ["Bytes", (one) => number(one.bytes), "number"],
  ["SHA-256", (one) => one.digest.slice(0, 12)],
  ["Runs at", (one) => running(one.version, known.instances), "wrap"],
  ["Change", (one) => (one.version === known.active?.version ? "" : activation(one.version))],
];

function running(version, instances) {
  const here = instances.filter((one) => one.version === version || one.canary === version);
  return here.map((one) => one.instance + (one.problem ? ` (${one.problem})` : "")).join(", ");
}

function activation(version) {
  const button = element("button", { type: "button" }, "Activate");
  button.addEventListener("click", () => change(`v1/module/activate?${terms({ version })}`, { method: "POST" }, `activate version ${version}`));
  return button;
}

function terms(parameters) {
  const given = { ...parameters, allow: $("allow").value, canary: $("canary").value, note: parameters.note };
  return new URLSearchParams(Object.entries(given).filter(([, value]) => value !== undefined && value !== ""));
}

async function change(path, options, question) {
  if (!confirm(`Shall all instances ${question}?`)) return;
  const buttons = document.querySelectorAll("#modules button, #push button");
  for (const button of buttons) button.disabled = true;
  $("change").textContent = "…";
  try {
    const headers = { ...options.headers, authorization: "Bearer " + $("token").value };
    const done = await ask(path, { ...options, headers });
    $("change").textContent = [done.done, ...done.differences].join("; ");
    await show();
  } catch (error) {
    $("change").textContent = error.message;
  }
  for (const button of buttons) button.disabled = false;
}

function push() {
  const [file] = $("component").files;
  if (!file) return ($("change").textContent = "Choose a component (.wasm) first.");
  const path = `v1/module?${terms({ note: $("note").value })}`;
  change(path, { method: "PUT", body: file, headers: { "content-type": "application/wasm" } }, `take up ${file.name}`);
}

// What was shown last: a table that is made anew under somebody's finger is hard to hit.
let shown = "";

export async function show() {
  const known = await ask("v1/module");
  const uploaded = known.source === "uploaded";
  $("source").textContent = uploaded
    ? known.active ? "" : "No version is active."
    : `The module is ${known.source}. With module.source = "uploaded" new versions can be pushed while it runs.`;
  $("push").hidden = !uploaded;
  $("modules").hidden = !uploaded;
  $("roll-back").disabled = known.active?.previous == null;
  const now = JSON.stringify(known);
  if (uploaded && now !== shown) fill($("modules"), columns(known), known.versions.toReversed(), (one) => ({ "data-version": one.version }));
  shown = now;
}

export function start() {
  $("push").addEventListener("submit", (event) => {
    event.preventDefault();
    push();
  });
  $("roll-back").addEventListener("click", () => change("v1/module/rollback", { method: "POST" }, "go back to the version before"));
}
