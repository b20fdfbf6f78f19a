// The page of RBMs: draw a frame, let the Gibbs chain run from it, see which filters respond.
import { get, work } from "./api.js";
import { colours, find, make, onColours, problem, say, sharp } from "./dom.js";
import { modelField } from "./form.js";

const PER_SECOND = 12,
  BRUSH = 1.1;
const page = find("#digits");
let model = null;
let visible = new Uint8Array(0),
  means = visible,
  hidden = visible;
let filters = null; // one canvas per hidden unit
let running = false,
  number = 0,
  seed = 0,
  asked = null;
let side = [28, 28];
let energies = [];
let cursor = null;

const bytesOf = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const textOf = (bytes) => btoa(String.fromCharCode(...bytes));

export async function start(entries) {
  const found = entries.filter((entry) => entry.kind === "frames");
  page.replaceChildren(make("h2", { id: "digits-title", class: "hidden" }, "Digits"));
  if (!found.length) {
    page.append(
      make(
        "section",
        { class: "card" },
        make("h3", {}, "No RBM yet"),
        make(
          "p",
          {},
          "This page needs an RBM. It takes two minutes to train one on 5,000 digits; then reload the page:",
        ),
        make(
          "pre",
          { tabindex: 0, role: "group", "aria-label": "Command" },
          make("code", {}, "musegen train model=rbm data=mnist_5k trainer.max_epochs=20"),
        ),
      ),
    );
    return;
  }
  build(found);
  await choose();
}

function build(found) {
  const button = (id, text, action, more = {}) =>
    make("button", { id, type: "button", onclick: action, ...more }, text);
  page.append(
    make(
      "div",
      { class: "desk digits-desk" },
      make(
        "section",
        { class: "card", "aria-labelledby": "draw-title" },
        make("h3", { id: "draw-title" }, "Draw"),
        modelField("rbm", found, choose),
        make("canvas", {
          id: "sheet",
          tabindex: 0,
          role: "application",
          "aria-label": "Drawing",
          "aria-describedby": "sheet-help",
        }),
        make(
          "p",
          { id: "sheet-help", class: "muted" },
          "Draw with the mouse or a finger; with Shift it erases. On the keyboard: arrows move, space changes a pixel.",
        ),
        make(
          "div",
          { class: "buttons" },
          button("chain", "Run the chain", toggle, { class: "main", "aria-pressed": "false" }),
          button("one-step", "One step", () => step(1)),
          button("wipe", "Clear", () => set(visible.map(() => 0))),
          button("noise", "Noise", () => set(visible.map(() => 255 * (Math.random() < 0.2)))),
        ),
        make(
          "div",
          { class: "field" },
          make("label", { for: "gibbs-steps" }, "Gibbs steps per picture"),
          make("input", { id: "gibbs-steps", type: "number", min: 1, max: 1000, value: 1 }),
        ),
        make(
          "label",
          { class: "switch" },
          make("input", { id: "show-means", type: "checkbox", checked: true, onchange: draw }),
          "Show probabilities instead of samples",
        ),
      ),
      make(
        "section",
        { class: "card", "aria-labelledby": "filters-title" },
        make("h3", { id: "filters-title" }, "Filters"),
        make(
          "p",
          { class: "muted" },
          "The weights of each hidden unit. A unit lights up as far as it is probably on, p(h = 1 | v).",
        ),
        make("canvas", { id: "filters", role: "img", "aria-label": "Filters of the hidden units" }),
        make("p", { id: "filters-text", class: "muted" }),
        make("h3", { id: "energy-title" }, "Free energy"),
        make("canvas", { id: "energy", role: "img", "aria-labelledby": "energy-title" }),
      ),
    ),
  );
  const sheet = find("#sheet");
  for (const name of ["pointerdown", "pointermove"]) sheet.addEventListener(name, paint);
  sheet.addEventListener("pointerup", () => step(0));
  sheet.addEventListener("keydown", key);
  for (const name of ["focus", "blur"]) sheet.addEventListener(name, draw);
  onColours(draw);
  new ResizeObserver(draw).observe(page);
}

async function choose() {
  running = false;
  try {
    problem("");
    const key = encodeURI(find("#rbm").value);
    const [found, { filters: weights }] = await Promise.all([
      get(`api/models/${key}`),
      get(`api/models/${key}/filters`),
    ]);
    model = found;
    const root = Math.sqrt(model.dim),
      packed = bytesOf(weights);
    side = Number.isInteger(root) ? [root, root] : [model.dim, 1];
    filters = Array.from({ length: model.shown }, (_, h) =>
      picture(packed.subarray(h * model.dim, (h + 1) * model.dim)),
    );
  } catch (error) {
    return problem(error.message);
  }
  set(new Uint8Array(model.dim));
}

/** A filter as an opaque picture: blue is positive, orange negative. */
function picture(values) {
  const canvas = make("canvas", { width: side[0], height: side[1] }),
    context = canvas.getContext("2d");
  const image = context.createImageData(side[0], side[1]);
  values.forEach((value, i) => {
    const weight = (value - 127.5) / 127.5,
      size = Math.abs(weight);
    const end = weight > 0 ? [64, 128, 255] : [255, 132, 40];
    end.forEach((channel, k) => {
      image.data[4 * i + k] = 24 + size * (channel - 24);
    });
    image.data[4 * i + 3] = 255;
  });
  context.putImageData(image, 0, 0);
  return canvas;
}

function set(values) {
  visible = Uint8Array.from(values);
  means = visible;
  energies = [];
  seed = Math.floor(Math.random() * 2 ** 31);
  step(0);
}

/** Gibbs steps on the server; 0 only computes the hidden units. */
async function step(steps = Number(find("#gibbs-steps").value) || 1) {
  if (!model || asked) return;
  asked = visible;
  try {
    const found = await work("gibbs", {
      model: model.key,
      visible: textOf(visible),
      steps,
      seed,
      number: ++number,
    });
    if (found && (asked === visible || steps === 0)) {
      if (asked === visible && steps) {
        visible = bytesOf(found.visible);
        means = bytesOf(found.means);
      }
      hidden = bytesOf(found.hidden);
      energies = [...energies, found.energy].slice(-200);
    }
  } catch (error) {
    running = false;
    problem(error.message);
  }
  asked = null;
  draw();
}

async function toggle() {
  running = !running;
  showRunning();
  while (running && !page.hidden) {
    const began = performance.now();
    await step();
    await new Promise((resolve) =>
      setTimeout(resolve, Math.max(0, 1000 / PER_SECOND - performance.now() + began)),
    );
  }
  running = false;
  showRunning();
}

function showRunning() {
  find("#chain").setAttribute("aria-pressed", String(running));
  find("#chain").textContent = running ? "Pause the chain" : "Run the chain";
}

function paint(event) {
  if (!event.buttons) return;
  event.target.setPointerCapture(event.pointerId);
  const box = event.target.getBoundingClientRect(),
    [w, h] = side;
  const x = ((event.clientX - box.left) / box.width) * w - 0.5,
    y = ((event.clientY - box.top) / box.height) * h - 0.5;
  const changed = visible.slice(),
    value = event.shiftKey ? 0 : 255;
  for (let j = Math.max(0, Math.floor(y - 1)); j <= Math.min(h - 1, y + 2); j++) {
    for (let i = Math.max(0, Math.floor(x - 1)); i <= Math.min(w - 1, x + 2); i++) {
      if (Math.hypot(i - x, j - y) < BRUSH) changed[j * w + i] = value;
    }
  }
  visible = means = changed;
  draw();
  if (!running) step(0);
}

function key(event) {
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] },
    [w, h] = side;
  cursor ??= [Math.floor(w / 2), Math.floor(h / 2)];
  if (moves[event.key]) {
    cursor = cursor.map((at, k) => Math.min(side[k] - 1, Math.max(0, at + moves[event.key][k])));
  } else if (event.key === " ") {
    const at = cursor[1] * w + cursor[0];
    visible = visible.with(at, visible[at] > 127 ? 0 : 255);
    means = visible;
    step(0);
  } else return;
  event.preventDefault();
  const on = visible[cursor[1] * w + cursor[0]] > 127;
  say(`column ${cursor[0] + 1}, row ${cursor[1] + 1} of ${h}, ${on ? "on" : "off"}`);
  draw();
}

function draw() {
  if (!model || page.hidden) return;
  drawSheet();
  drawFilters();
  drawEnergy();
}

function drawSheet() {
  const canvas = find("#sheet"),
    width = canvas.clientWidth,
    [w, h] = side,
    cell = width / w;
  canvas.style.height = `${cell * h}px`;
  const context = sharp(canvas, width, cell * h);
  const shown = find("#show-means").checked ? means : visible;
  for (let i = 0; i < shown.length; i++) {
    const level = shown[i];
    context.fillStyle = `rgb(${level} ${level} ${level})`;
    context.fillRect((i % w) * cell, Math.floor(i / w) * cell, cell + 0.6, cell + 0.6);
  }
  if (cursor && document.activeElement === canvas) {
    context.strokeStyle = "#ffb27a";
    context.lineWidth = 2;
    context.strokeRect(cursor[0] * cell, cursor[1] * cell, cell, cell);
  }
}

function drawFilters() {
  const canvas = find("#filters"),
    width = canvas.clientWidth,
    [w, h] = side;
  const tile = Math.min(64, Math.max(20, Math.floor(Math.sqrt((width * 460) / filters.length)))),
    gap = 3;
  const columns = Math.max(1, Math.floor((width + gap) / tile)),
    height = Math.ceil(filters.length / columns) * tile * (h / w);
  canvas.style.height = `${height}px`;
  const context = sharp(canvas, width, height),
    colour = colours();
  context.clearRect(0, 0, width, height);
  context.imageSmoothingEnabled = false;
  filters.forEach((filter, i) => {
    const [x, y] = [(i % columns) * tile, Math.floor(i / columns) * tile * (h / w)],
      on = (hidden[i] ?? 0) / 255;
    context.fillStyle = "#181818";
    context.fillRect(x, y, tile - gap, (tile - gap) * (h / w));
    context.globalAlpha = 0.2 + 0.8 * on;
    context.drawImage(filter, x, y, tile - gap, (tile - gap) * (h / w));
    context.globalAlpha = 1;
    if (on > 0.5) {
      context.strokeStyle = colour.c1;
      context.lineWidth = 1.5;
      context.strokeRect(x + 0.5, y + 0.5, tile - gap - 1, (tile - gap) * (h / w) - 1);
    }
  });
  const on = hidden.reduce((sum, p) => sum + (p > 127), 0);
  find("#filters-text").textContent =
    `${on} of ${filters.length} units are probably on${model.hidden > filters.length ? `; the first ${filters.length} of ${model.hidden} are shown` : ""}.`;
}

function drawEnergy() {
  const canvas = find("#energy"),
    width = canvas.clientWidth,
    height = canvas.clientHeight;
  const context = sharp(canvas, width, height),
    colour = colours();
  context.clearRect(0, 0, width, height);
  if (!energies.length) return;
  const low = Math.min(...energies),
    high = Math.max(...energies, low + 1);
  const x = (i) => 8 + (i / Math.max(energies.length - 1, 1)) * (width - 90),
    y = (e) => 8 + (1 - (e - low) / (high - low)) * (height - 16);
  context.strokeStyle = colour.c0;
  context.lineWidth = 2;
  context.beginPath();
  energies.forEach((energy, i) => context.lineTo(x(i), y(energy)));
  context.stroke();
  context.fillStyle = colour.muted;
  context.font = "12px system-ui, sans-serif";
  context.fillText(
    `${energies.at(-1).toFixed(1).replace("-", "−")} nats`,
    width - 80,
    Math.min(height - 4, y(energies.at(-1)) + 4),
  );
}
