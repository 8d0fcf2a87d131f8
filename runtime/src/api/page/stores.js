// Looks up keys and pages of entries.
import { $, ask, fill, tableRow, text } from "./element.js";

const COLUMNS = [
  ["Key", (entry) => text(entry.key), "value"],
  ["Value", (entry) => text(entry.value), "value"],
  ["Timestamp", (entry) => new Date(entry.timestamp_ms).toISOString()],
];

// The page of entries to be asked for next.
let next = null;

async function query(append) {
  const store = `v1/stores/${encodeURIComponent($("store").value)}`;
  const key = $("key").value;
  const parameters = new URLSearchParams();
  if ($("stale").checked) parameters.set("stale", "true");
  try {
    if (key) {
      const found = await ask(`${store}/keys/${encodeURIComponent(key)}?${parameters}`);
      fill($("entries"), COLUMNS, [found]);
      $("answer").textContent = `in task ${found.task}${found.stale ? ", perhaps without the latest commits" : ""}`;
      next = null;
    } else {
      if ($("prefix").value) parameters.set("prefix", $("prefix").value);
      if (append && next) parameters.set("after", next);
      const page = await ask(`${store}/entries?${parameters}`);
      if (append) $("entries").tBodies[0].append(...page.entries.map((entry) => tableRow(COLUMNS, entry)));
      else fill($("entries"), COLUMNS, page.entries);
      next = page.next;
      $("answer").textContent = `${$("entries").tBodies[0].rows.length} entries, up to task ${page.task}`;
    }
  } catch (error) {
    if (!append) fill($("entries"), COLUMNS, []);
    next = append ? next : null;
    $("answer").textContent = error.message;
  }
  $("more").hidden = !next;
}

export function start() {
  $("query").addEventListener("submit", (event) => {
    event.preventDefault();
    query(false);
  });
  $("more").addEventListener("click", () => query(true));
}
