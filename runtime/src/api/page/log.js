// The last lines that the module wrote at this instance.
import { $, ask, fill, tableRow } from "./element.js";

const COLUMNS = [
  ["Time", (line) => new Date(line.at_ms).toISOString().slice(11, 23)],
  ["Task", (line) => line.task],
  ["Module", (line) => line.module],
  ["Stream", (line) => line.stream],
  ["Line", (line) => line.text, "value"],
];
const rows = (lines) => lines.map((line) => tableRow(COLUMNS, line, { class: line.stream }));

// The numbers of the first and the last line that are shown; null: none is.
let first = null;
let last = null;

/** Adds what was written since; begins anew with another run of the instance. */
export async function follow() {
  let log = await ask(last === null ? "v1/logs" : `v1/logs?after=${last}`);
  if (last !== null && (log.newest ?? 0) < last) {
    first = last = null;
    log = await ask("v1/logs");
  }
  $("log-answer").textContent = log.newest === null ? "The module has written nothing." : "";
  if (log.lines.length === 0) return;
  if (first === null) {
    fill($("log"), COLUMNS, []);
    first = log.lines[0].number;
    $("log-older").hidden = first === log.oldest;
  }
  $("log").tBodies[0].append(...rows(log.lines));
  last = log.lines.at(-1).number;
}

async function older() {
  const log = await ask(`v1/logs?before=${first}`);
  $("log").tBodies[0].prepend(...rows(log.lines));
  first = log.lines[0]?.number ?? first;
  $("log-older").hidden = log.lines.length === 0 || first === log.oldest;
}

export function start() {
  $("log-older").addEventListener("click", () => older().catch((error) => ($("log-answer").textContent = error.message)));
}
