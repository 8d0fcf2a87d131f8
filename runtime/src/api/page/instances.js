// The instances of the application and the tasks of all of them: this one asks the others.
import { $, ask, element, fill, number, sum } from "./element.js";

const UPTIME = (ms) => (ms < 3600000 ? Math.round(ms / 60000) + " min" : (ms / 3600000).toFixed(1) + " h");
const INSTANCES = [
  ["Instance", (one) => one.instance],
  ["State", (one) => one.state || one.error, "wrap"],
  ["Tasks", (one) => (one.tasks ? one.tasks.length : "–"), "number"],
  ["Records/s", (one) => number(rounded(one.rate)), "number"],
  ["Module", (one) => (one.module || "–").slice(0, 12)],
  ["Rebalances", (one) => number(one.rebalances), "number"],
  ["Up", (one) => (one.uptime_ms === undefined ? "–" : UPTIME(one.uptime_ms)), "number"],
];
const TASKS = [
  ["Task", (task) => task.id],
  ["Instance", (task) => task.instance],
  ["State", (task) => task.state],
  ["Thread", (task) => (task.worker === null ? "–" : "worker-" + task.worker)],
  ["Records/s", (task) => number(rounded(task.rate)), "number"],
  ["Records", (task) => number(task.records), "number"],
  ["Lag", (task) => number(sum(task.inputs.map((input) => input.lag))), "number"],
  ["To restore", (task) => number(task.remaining_records), "number"],
  ["Faults", (task) => number(sum(Object.values(task.faults))), "number"],
  ["Left out", (task) => number(task.dropped), "number"],
  ["Reads", (task) => task.inputs.map((input) => input.topic + "-" + input.partition).join(", ")],
];
const rounded = (rate) => (rate === null || rate === undefined ? null : Math.round(rate));

// What was counted at the refresh before, by instance and task, for rates.
let before = {};
function count(instances, at) {
  const counted = {};
  for (const one of instances) {
    for (const task of one.tasks || []) {
      const key = one.instance + "/" + task.id;
      const old = before[key];
      task.instance = one.instance;
      task.rate = old && task.records >= old.records ? ((task.records - old.records) * 1000) / (at - old.at) : null;
      counted[key] = { records: task.records, at };
    }
    one.rate = one.tasks ? sum(one.tasks.filter((task) => task.state === "RUNNING").map((task) => task.rate)) : null;
  }
  before = counted;
}

async function group(own) {
  // Before it has joined nobody knows of others.
  if (own.state === "CREATED") return [own];
  try {
    const { instances } = await ask("v1/instances");
    $("group").textContent = "";
    return instances.map(({ instance, told, error }) => told ?? { instance, error });
  } catch (error) {
    $("group").textContent = `Other instances are not known: ${error.message}`;
    return [own];
  }
}

/** This instance, and all of the group in the order of their names. */
export async function show() {
  const own = await ask("v1/tasks");
  showOwn(own);
  const instances = await group(own);
  instances.sort((one, two) => (one.instance < two.instance ? -1 : 1));
  count(instances, performance.now());
  fill($("instances"), INSTANCES, instances, (one) => ({ "data-instance": one.instance }));
  const tasks = instances.flatMap((one) => one.tasks || []);
  tasks.sort((one, two) => one.id.localeCompare(two.id, "en", { numeric: true }));
  fill($("tasks"), TASKS, tasks, (task) => ({ "data-task": task.id }));
  $("no-tasks").hidden = tasks.length > 0;
  return { own, tasks, names: instances.map((one) => one.instance) };
}

function showOwn(own) {
  document.title = `${own.application_id} · Millrace`;
  $("application").textContent = own.application_id;
  $("state").textContent = own.state;
  $("state").className = "state " + own.state;
  const facts = [["instance", own.instance], ["version", own.version]];
  $("instance").replaceChildren(...facts.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));
}
