// The instance and its tasks.
import { $, ask, element, fill, number, sum } from "./element.js";

const UPTIME = (ms) => (ms < 3600000 ? Math.round(ms / 60000) + " min" : (ms / 3600000).toFixed(1) + " h");
const COLUMNS = [
  ["Task", (task) => task.id],
  ["State", (task) => task.state],
  ["Thread", (task) => (task.worker === null ? "–" : "worker-" + task.worker)],
  ["Records/s", (task) => number(task.rate === null ? null : Math.round(task.rate)), "number"],
  ["Records", (task) => number(task.records), "number"],
  ["Lag", (task) => number(sum(task.inputs.map((input) => input.lag))), "number"],
  ["To restore", (task) => number(task.remaining_records), "number"],
  ["Faults", (task) => number(sum(Object.values(task.faults))), "number"],
  ["Left out", (task) => number(task.dropped), "number"],
  ["Reads", (task) => task.inputs.map((input) => input.topic + "-" + input.partition).join(", ")],
];

// What was counted at the refresh before, by task, for rates.
let before = {};

function count(tasks, at) {
  const counted = {};
  for (const task of tasks) {
    const old = before[task.id];
    task.rate = old && task.records >= old.records ? ((task.records - old.records) * 1000) / (at - old.at) : null;
    counted[task.id] = { records: task.records, at };
  }
  before = counted;
}

export async function show() {
  const instance = await ask("v1/tasks");
  document.title = `${instance.application_id} · Millrace`;
  $("application").textContent = instance.application_id;
  $("state").textContent = instance.state;
  $("state").className = "state " + instance.state;
  const facts = [
    ["instance", instance.instance],
    ["module", instance.module.slice(0, 12)],
    ["version", instance.version],
    ["up", UPTIME(instance.uptime_ms)],
    ["rebalances", instance.rebalances],
  ];
  $("instance").replaceChildren(...facts.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));
  count(instance.tasks, performance.now());
  fill($("tasks"), COLUMNS, instance.tasks, (task) => ({ "data-task": task.id }));
  $("no-tasks").hidden = instance.tasks.length > 0;
  return instance;
}
