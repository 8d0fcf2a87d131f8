// The last lines that the module wrote, at one of the instances.
import { $, ask, element, fill, tableRow } from "./element.js";

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

const chosen = () => $("log-instance").value;
const asked = (parameters) => ask(`v1/logs?${new URLSearchParams({ instance: chosen(), ...parameters })}`);

/** Offers these instances; who has chosen one stays with it as long as it is there. */
function offer(own, names) {
  const select = $("log-instance");
  const offered = [...select.options].map((option) => option.value);
  if (offered.join("\n") === names.join("\n")) return;
  const before = chosen();
  select.replaceChildren(...names.map((name) => element("option", { value: name }, name)));
  select.value = names.includes(before) ? before : own;
  $("log-of").hidden = names.length < 2;
  if (chosen() !== before) clear();
}

function clear() {
  first = last = null;
  $("log").tBodies[0].replaceChildren();
  $("log-older").hidden = true;
  $("log-answer").textContent = "";
}

/** Adds what was written since; begins anew with another run of the instance. */
export async function follow(own, names) {
  offer(own, names);
  const instance = chosen();
  try {
    let log = await asked(last === null ? {} : { after: last });
    if (last !== null && (log.newest ?? 0) < last) {
      clear();
      log = await asked({});
    }
    // Another one may have been chosen meanwhile.
    if (instance === chosen()) add(log);
  } catch (error) {
    $("log-answer").textContent = error.message;
  }
}

function add(log) {
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
  const log = await asked({ before: first });
  $("log").tBodies[0].prepend(...rows(log.lines));
  first = log.lines[0]?.number ?? first;
  $("log-older").hidden = log.lines.length === 0 || first === log.oldest;
}

export function start() {
  $("log-older").addEventListener("click", () => older().catch((error) => ($("log-answer").textContent = error.message)));
  $("log-instance").addEventListener("change", clear);
}
