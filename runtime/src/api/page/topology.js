// Draws the topology, with the rates of its subtopologies.
import { drawn, number } from "./element.js";

const WIDTH = 228, HEIGHT = 28, GAP_X = 34, GAP_Y = 14;

// Layers from left to right: a node stands one after the last of its parents.
function layers(subtopology) {
  const nodes = new Map();
  const add = (id, label, kind, parents) => nodes.set(id, { id, label, kind, parents, layer: 0 });
  for (const source of subtopology.sources) {
    const topics = source.topics.length ? source.topics : [source.pattern];
    for (const topic of topics) add("topic " + topic, topic, "topic", []);
    add(source.name, source.name, "node", topics.map((topic) => "topic " + topic));
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

/** `rate`: records a second in all its tasks; null: nobody knows. */
export function draw(subtopology, rate) {
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
  const title = drawn("text", { x: 1, y: 14 }, `subtopology ${subtopology.id}, ${subtopology.tasks} tasks `);
  title.append(drawn("tspan", { class: "rate" }, rate === null ? "" : `${number(Math.round(rate))} records/s`));
  svg.append(title);
  for (const node of nodes) {
    for (const parent of node.parents.map((id) => at.get(id)).filter(Boolean)) {
      const [x1, y1, x2, y2] = [parent.x + WIDTH, parent.y + HEIGHT / 2, node.x, node.y + HEIGHT / 2];
      const bend = (x2 - x1) / 2;
      svg.append(drawn("path", { d: `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}` }));
    }
  }
  for (const node of nodes) {
    const label = node.label.length > 28 ? node.label.slice(0, 27) + "…" : node.label;
    svg.append(
      drawn("g", { class: "node " + node.kind }, drawn("title", {}, node.label),
        drawn("rect", { x: node.x, y: node.y, width: WIDTH, height: HEIGHT, rx: 4 }),
        drawn("text", { x: node.x + 8, y: node.y + 18 }, label)));
  }
  return svg;
}
