// The page of one instance: reads what anybody can read under /v1, again and again, and shows it.
import { $, ask, element, sum } from "./element.js";
import * as instances from "./instances.js";
import * as log from "./log.js";
import * as modules from "./modules.js";
import * as stores from "./stores.js";
import { draw } from "./topology.js";

const REFRESH_MS = 2000;

// Known once source topics are there; it stays what it is while a module runs.
let topology = null;
let module = null;

async function showTopology(own, tasks) {
  if (own.module !== module) {
    topology = await ask("v1/topology");
    module = own.module;
    const names = topology.subtopologies.flatMap((subtopology) => subtopology.stores.map((store) => store.name));
    $("store").replaceChildren(...names.map((name) => element("option", { value: name }, name)));
    $("ask").disabled = names.length === 0;
  }
  const pictures = topology.subtopologies.map((subtopology) => {
    const running = tasks.filter((task) => task.state === "RUNNING" && task.id.startsWith(subtopology.id + "_"));
    return draw(subtopology, sum(running.map((task) => task.rate)));
  });
  $("topology").replaceChildren(...pictures);
}

async function refresh() {
  try {
    const { own, tasks, names } = await instances.show();
    if (own.state !== "CREATED") await showTopology(own, tasks);
    await modules.show();
    await log.follow(own.instance, names);
  } catch (error) {
    $("state").textContent = "no answer: " + error.message;
    $("state").className = "state";
  }
  setTimeout(refresh, REFRESH_MS);
}

stores.start();
modules.start();
log.start();
refresh();
