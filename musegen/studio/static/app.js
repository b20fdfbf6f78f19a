// The pages of the studio; each is started when it is first shown.
import { get } from "./api.js";
import { all, find, problem } from "./dom.js";

const PAGES = {
  music: () => import("./music.js"),
  digits: () => import("./digits.js"),
  letters: () => import("./letters.js"),
  counting: () => import("./counting.js"),
};
const started = new Map();
let entries = [];

async function show() {
  const name = PAGES[location.hash.slice(1)] ? location.hash.slice(1) : "music";
  for (const page of all(".page")) page.hidden = page.id !== name;
  for (const link of all("nav a")) {
    if (link.getAttribute("href") === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${find(`nav a[href="#${name}"]`).textContent}, musegen studio`;
  problem("");
  if (started.has(name)) return;
  started.set(name, true);
  try {
    await (await PAGES[name]()).start(entries);
  } catch (error) {
    started.delete(name);
    problem(error.message);
  }
}

try {
  entries = (await get("api/models")).models;
} catch (error) {
  problem(error.message);
}
addEventListener("hashchange", show);
await show();
document.body.dataset.ready = "true";
