// Elements, numbers and questions: what the other files are made of. What comes from records is put in as text, never
// as markup.

export const $ = (id) => document.getElementById(id);

export function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  made.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return made;
}

export function drawn(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** A table of these columns: a name, what a row has there, and a class. */
export function fill(table, columns, rows, attributes = () => ({})) {
  table.tHead.replaceChildren(element("tr", {}, ...columns.map(([name, , kind]) => element("th", { class: kind || "" }, name))));
  table.tBodies[0].replaceChildren(...rows.map((row) => tableRow(columns, row, attributes(row))));
}

/** Each cell says which column it is in, for narrow screens have no columns. */
export function tableRow(columns, row, attributes) {
  const cell = ([name, value, kind]) => element("td", { class: kind || "", "data-column": name }, value(row));
  return element("tr", attributes, ...columns.map(cell));
}

export async function ask(path, options = {}) {
  const answer = await fetch(path, { ...options, headers: { accept: "application/json", ...options.headers } });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(body.error || answer.statusText);
  return body;
}

export const number = (value) => (value === null || value === undefined ? "–" : value.toLocaleString("en"));
export const text = (value) => (typeof value === "string" ? value : JSON.stringify(value));

/** Of numbers of which some may not be known. */
export function sum(numbers) {
  const known = numbers.filter((value) => value !== null && value !== undefined);
  return known.length < numbers.length ? null : known.reduce((all, value) => all + value, 0);
}
