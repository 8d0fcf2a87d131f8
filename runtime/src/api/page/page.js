// The page of one instance. Reads what anybody can read under /v1, and shows it. What comes from records is put in as
// text, never as markup.
"use strict";

const REFRESH_MS = 2000;
const $ = (id) => document.getElementById(id);

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  made.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return made;
}

function drawn(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

async function ask(path) {
  const answer = await fetch(path, { headers: { accept: "application/json" } });
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error || answer.statusText);
  return body;
}

const number = (value) => (value === null || value === undefined ? "–" : value.toLocaleString("en"));
const shown = (value) => (typeof value === "string" ? value : JSON.stringify(value));

// What was counted at the refresh before, for rates.
let before = null;

function rates(tasks, at) {
  const rate = {};
  for (const task of tasks) {
    const old = before && before.tasks[task.id];
    const seconds = before ? (at - before.at) / 1000 : 0;
    rate[task.id] = old !== undefined && task.records >= old && seconds > 0 ? (task.records - old) / seconds : null;
  }
  before = { at, tasks: Object.fromEntries(tasks.map((task) => [task.id, task.records])) };
  return rate;
}

const COLUMNS = [
  ["Task", (task) => task.id],
  ["State", (task) => task.state, "state-of-task"],
  ["Thread", (task) => (task.worker === null ? "–" : "worker-" + task.worker)],
  ["Records/s", (task, rate) => (rate === null ? "–" : number(Math.round(rate))), "number"],
  ["Records", (task) => number(task.records), "number"],
  ["Lag", (task) => number(sum(task.inputs.map((input) => input.lag))), "number"],
  ["To restore", (task) => number(task.remaining_records), "number"],
  ["Faults", (task) => number(sum(Object.values(task.faults))), "number"],
  ["Left out", (task) => number(task.dropped), "number"],
  ["Reads", (task) => task.inputs.map((input) => input.topic + "-" + input.partition).join(", ")],
];

function sum(numbers) {
  const known = numbers.filter((value) => value !== null && value !== undefined);
  return known.length < numbers.length ? null : known.reduce((all, value) => all + value, 0);
}

function showInstance(instance) {
  document.title = `${instance.application_id} · Millrace`;
  $("application").textContent = instance.application_id;
  $("state").textContent = instance.state;
  $("state").className = "state " + instance.state;
  const hours = instance.uptime_ms / 3600000;
  const facts = [
    ["instance", instance.instance],
    ["module", instance.module.slice(0, 12)],
    ["version", instance.version],
    ["up", hours < 1 ? Math.round(hours * 60) + " min" : hours.toFixed(1) + " h"],
    ["rebalances", instance.rebalances],
  ];
  $("instance").replaceChildren(...facts.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));
}

function showTasks(tasks, rate) {
  const heading = element("tr", {}, ...COLUMNS.map(([name, , kind]) => element("th", { class: kind || "" }, name)));
  $("tasks").tHead.replaceChildren(heading);
  const row = (task) =>
    element("tr", { "data-task": task.id }, ...COLUMNS.map(([, value, kind]) => element("td", { class: kind || "" }, value(task, rate[task.id]))));
  $("tasks").tBodies[0].replaceChildren(...tasks.map(row));
  $("no-tasks").hidden = tasks.length > 0;
}

let topology = null;

// Layers from left to right: a node stands one after the last of its parents.
function layers(subtopology) {
  const nodes = new Map();
  const add = (id, label, kind, parents) => nodes.set(id, { id, label, kind, parents, layer: 0 });
  for (const source of subtopology.sources) {
    for (const topic of source.topics.length ? source.topics : [source.pattern]) add("topic " + topic, topic, "topic", []);
    add(source.name, source.name, "node", (source.topics.length ? source.topics : [source.pattern]).map((topic) => "topic " + topic));
  }
  for (const node of subtopology.processors) add(node.name, node.name, "node", node.parents);
  for (const sink of subtopology.sinks) {
    add(sink.name, sink.name, "node", sink.parents);
    const topic = sink.topic || "(by record)";
    const id = "to " + topic;
    if (nodes.has(id)) nodes.get(id).parents.push(sink.name);
    else add(id, topic, "topic", [sink.name]);
  }
  for (const store of subtopology.stores) {
    const users = subtopology.processors.filter((node) => node.stores.includes(store.name)).map((node) => node.name);
    add("store " + store.name, store.name, "store", users);
  }
  // Declared parents first, so once through is enough for all but stores and topics, which come last.
  for (const node of nodes.values()) {
    for (const parent of node.parents) node.layer = Math.max(node.layer, (nodes.get(parent)?.layer ?? 0) + 1);
  }
  return [...nodes.values()];
}

function draw(subtopology, rate) {
  const WIDTH = 228, HEIGHT = 28, GAP_X = 34, GAP_Y = 14;
  const nodes = layers(subtopology);
  const rows = {};
  for (const node of nodes) {
    const row = (rows[node.layer] = (rows[node.layer] ?? -1) + 1);
    node.x = 1 + node.layer * (WIDTH + GAP_X);
    node.y = 24 + row * (HEIGHT + GAP_Y);
  }
  const at = new Map(nodes.map((node) => [node.id, node]));
  const width = Math.max(...nodes.map((node) => node.x)) + WIDTH + 2;
  const height = Math.max(...nodes.map((node) => node.y)) + HEIGHT + 2;
  const svg = drawn("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `subtopology ${subtopology.id}` });
  const title = drawn("text", { x: 1, y: 14 });
  title.append(`subtopology ${subtopology.id}, ${subtopology.tasks} tasks `);
  const live = drawn("tspan", { class: "rate" });
  live.append(rate === null ? "" : `${number(Math.round(rate))} records/s here`);
  title.append(live);
  svg.append(title);
  for (const node of nodes) {
    for (const parent of node.parents.map((id) => at.get(id)).filter(Boolean)) {
      const [x1, y1, x2, y2] = [parent.x + WIDTH, parent.y + HEIGHT / 2, node.x, node.y + HEIGHT / 2];
      const bend = (x2 - x1) / 2;
      svg.append(drawn("path", { d: `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}` }));
    }
  }
  for (const node of nodes) {
    const text = drawn("text", { x: node.x + 8, y: node.y + 18 });
    text.append(node.label.length > 28 ? node.label.slice(0, 27) + "…" : node.label);
    const name = drawn("title");
    name.append(node.label);
    svg.append(drawn("g", { class: "node " + node.kind }, name, drawn("rect", { x: node.x, y: node.y, width: WIDTH, height: HEIGHT, rx: 4 }), text));
  }
  return svg;
}

function showTopology(tasks, rate) {
  if (!topology) return;
  const pictures = topology.subtopologies.map((subtopology) => {
    const own = tasks.filter((task) => task.state === "RUNNING" && task.id.startsWith(subtopology.id + "_"));
    return draw(subtopology, sum(own.map((task) => rate[task.id])));
  });
  $("topology").replaceChildren(...pictures);
}

async function refresh() {
  try {
    const instance = await ask("v1/tasks");
    const rate = rates(instance.tasks, performance.now());
    showInstance(instance);
    showTasks(instance.tasks, rate);
    // Known once source topics are there; it stays what it is.
    if (!topology && instance.state !== "CREATED") {
      topology = await ask("v1/topology");
      const names = topology.subtopologies.flatMap((subtopology) => subtopology.stores.map((store) => store.name));
      $("store").replaceChildren(...names.map((name) => element("option", { value: name }, name)));
      $("ask").disabled = names.length === 0;
    }
    showTopology(instance.tasks, rate);
  } catch (error) {
    $("state").textContent = "no answer: " + error.message;
    $("state").className = "state";
  }
  setTimeout(refresh, REFRESH_MS);
}

// The page of entries to be asked for next.
let next = null;

function showEntries(entries, append) {
  const columns = ["Key", "Value", "Timestamp"];
  $("entries").tHead.replaceChildren(element("tr", {}, ...columns.map((name) => element("th", {}, name))));
  const row = (entry) =>
    element("tr", {}, element("td", { class: "value" }, shown(entry.key)), element("td", { class: "value" }, shown(entry.value)),
      element("td", {}, new Date(entry.timestamp_ms).toISOString()));
  const rows = entries.map(row);
  if (append) $("entries").tBodies[0].append(...rows);
  else $("entries").tBodies[0].replaceChildren(...rows);
}

async function query(append) {
  const store = `v1/stores/${encodeURIComponent($("store").value)}`;
  const key = $("key").value;
  const parameters = new URLSearchParams();
  if ($("stale").checked) parameters.set("stale", "true");
  try {
    if (key) {
      const found = await ask(`${store}/keys/${encodeURIComponent(key)}?${parameters}`);
      showEntries([found], false);
      $("answer").textContent = `in task ${found.task}${found.stale ? ", perhaps without the latest commits" : ""}`;
      next = null;
    } else {
      if ($("prefix").value) parameters.set("prefix", $("prefix").value);
      if (append && next) parameters.set("after", next);
      const page = await ask(`${store}/entries?${parameters}`);
      showEntries(page.entries, append);
      next = page.next;
      $("answer").textContent = `${$("entries").tBodies[0].rows.length} entries, up to task ${page.task}`;
    }
  } catch (error) {
    if (!append) showEntries([], false);
    next = append ? next : null;
    $("answer").textContent = error.message;
  }
  $("more").hidden = !next;
}

$("query").addEventListener("submit", (event) => {
  event.preventDefault();
  query(false);
});
$("more").addEventListener("click", () => query(true));
refresh();
