// The page of counting networks: type a string, and see units, gates and the state while it is read.
import { get, work } from "./api.js";
import { find, make, problem, say } from "./dom.js";
import { modelField } from "./form.js";

const page = find("#counting");
const MAX_STEPS = 60,
  COLOURS = 6;
let model = null,
  read = null,
  at = 0,
  wanted = 0,
  playing = 0;
const svg = (name, attributes, ...children) => make(`svg:${name}`, attributes, ...children);
const END = { end: "■", start: "▶" };
const sign = (symbol) => END[symbol] ?? symbol;

export async function start(entries) {
  const found = entries.filter((entry) => entry.kind === "text");
  const preferred = found.find((entry) => entry.key === "counting") ?? found[0];
  page.replaceChildren(make("h2", { id: "counting-title", class: "hidden" }, "Counting"));
  if (!found.length) {
    page.append(make("p", {}, "There is no model of texts among the runs."));
    return;
  }
  const panel = (id, title, text) =>
    make(
      "section",
      { class: "card", "aria-labelledby": `${id}-title` },
      make("h3", { id: `${id}-title` }, title),
      make("p", { class: "muted" }, text),
      make("div", { id }),
    );
  page.append(
    make(
      "section",
      { class: "card", "aria-labelledby": "string-title" },
      make("h3", { id: "string-title" }, "A string"),
      make(
        "div",
        { class: "pair wide-pair" },
        make(
          "div",
          { class: "field" },
          make("label", { for: "string" }, "String"),
          make("input", {
            id: "string",
            type: "text",
            maxlength: MAX_STEPS,
            value: "00001111",
            oninput: later,
            autocomplete: "off",
            spellcheck: "false",
            inputmode: "numeric",
          }),
        ),
        modelField("counter", found, choose),
      ),
      make("p", { id: "string-help", class: "muted" }),
      make("div", { id: "tape", class: "tape" }),
      make(
        "div",
        { class: "transport" },
        make("button", { id: "run", type: "button", class: "main", onclick: toggle }, "Read it slowly"),
        make("input", {
          id: "at",
          type: "range",
          min: 0,
          max: 1,
          value: 0,
          class: "seek",
          "aria-label": "Symbols read",
          oninput: ({ target }) => show(Number(target.value)),
        }),
      ),
    ),
    make(
      "div",
      { class: "panels" },
      panel(
        "plane",
        "The state",
        "The path of the state, and the lines where the most probable symbol changes.",
      ),
      panel("probabilities", "What comes next", "The probability of each symbol after what was read."),
      panel("units", "Units", "Each unit's output after every symbol."),
      panel(
        "gates",
        "Gates and cell",
        "What an LSTM lets in (i), keeps (f) and shows (o), and its cell (c).",
      ),
    ),
  );
  find("#counter").value = preferred.key;
  await choose();
}

async function choose() {
  try {
    problem("");
    model = await get(`api/models/${encodeURI(find("#counter").value)}`);
  } catch (error) {
    return problem(error.message);
  }
  const shown = model.symbols?.length > 12 ? "letters" : [...(model.symbols ?? "")].join(" ");
  find("#string-help").textContent =
    `Its symbols are ${shown}. Below each symbol is what the network expects next; ■ is the end.`;
  await look();
}

function later() {
  clearTimeout(wanted);
  wanted = setTimeout(look, 250);
}

async function look() {
  stop();
  const string = find("#string").value;
  if (!string) return;
  try {
    problem("");
    read = await work("dissect", { model: model.key, string, label: model.labels[0] ?? null });
    find("#at").max = read.read.length - 1;
    show(read.read.length - 1);
  } catch (error) {
    problem(error.message);
  }
}

function toggle() {
  if (playing) return stop();
  if (!read) return;
  if (at >= read.read.length - 1) show(0);
  find("#run").textContent = "Pause";
  playing = setInterval(() => (at < read.read.length - 1 && !page.hidden ? show(at + 1) : stop()), 500);
}

function stop() {
  clearInterval(playing);
  playing = 0;
  find("#run").textContent = "Read it slowly";
}

function show(step) {
  at = step;
  find("#at").value = at;
  find("#at").setAttribute(
    "aria-valuetext",
    `${at} of ${read.read.length - 1} symbols read, next ${read.likeliest[at]}`,
  );
  if (!playing) say(`${at} symbols read, the network expects ${read.likeliest[at]}`);
  tape();
  plane();
  probabilities();
  const gates = Object.fromEntries(
    ["i", "f", "o", "c"].filter((name) => read.units[name]).map((name) => [name, read.units[name]]),
  );
  find("#units").replaceChildren(lines({ h: read.units.h }, "Units"));
  find("#gates").closest("section").hidden = !Object.keys(gates).length;
  find("#gates").replaceChildren(
    ...(gates.i
      ? [lines({ i: gates.i, f: gates.f, o: gates.o }, "Gates"), lines({ c: gates.c }, "Cell")]
      : []),
  );
}

/** The symbols, and below each one what the network expects after it. */
function tape() {
  const expected = read.likeliest;
  find("#tape").replaceChildren(
    ...read.read.map((symbol, t) => {
      const wrong = read.legal
        ? !read.legal[t].includes(expected[t])
        : t + 1 < read.read.length && expected[t] !== read.read[t + 1];
      return make(
        "button",
        {
          type: "button",
          class: `cell${t === at ? " now" : ""}${t > at ? " ahead" : ""}`,
          onclick: () => {
            stop();
            show(t);
          },
          "aria-label": `${symbol}, then ${expected[t]} expected`,
          "aria-pressed": String(t === at),
        },
        make("b", {}, sign(symbol)),
        make("span", { class: wrong ? "wrong" : null }, sign(expected[t])),
      );
    }),
  );
}

function probabilities() {
  const rows = read.symbols
    .map((symbol, k) => [symbol, read.probabilities[at][k]])
    .sort((a, b) => b[1] - a[1])
    .slice(0, 8);
  find("#probabilities").replaceChildren(
    make(
      "ul",
      { class: "bars" },
      ...rows.map(([symbol, p]) => {
        const bar = make("span", { class: "bar-of", "aria-hidden": "true" });
        bar.style.setProperty("--p", p);
        return make(
          "li",
          {},
          make("b", {}, sign(symbol)),
          bar,
          make("span", { class: "muted" }, p.toFixed(3)),
        );
      }),
    ),
  );
}

const decimal = (value, digits = 1) => value.toFixed(digits).replace("-", "−");
const range = (values) => {
  const low = Math.min(...values),
    high = Math.max(...values),
    spare = (high - low) * 0.08 || 0.5;
  return [low - spare, high + spare];
};

/** Lines of up to six units for each name, over the symbols. */
function lines(series, title) {
  const names = Object.keys(series),
    steps = read.read.length,
    W = 460,
    H = 170,
    left = 40,
    bottom = 24;
  const shown = names.flatMap((name) =>
    series[name][0].slice(0, names.length > 1 ? 1 : COLOURS).map((_, unit) => ({
      name: series[name][0].length > 1 && names.length === 1 ? `${name}${unit + 1}` : name,
      values: series[name].map((row) => row[unit]),
    })),
  );
  const [low, high] = range(shown.flatMap((line) => line.values));
  const x = (t) => left + (t / Math.max(steps - 1, 1)) * (W - left - 12),
    y = (v) => 8 + (1 - (v - low) / (high - low)) * (H - bottom - 8);
  const ticks = [low, (low + high) / 2, high].map(
    (v) => v + (v === low ? 1 : v === high ? -1 : 0) * (high - low) * 0.06,
  );
  return make(
    "figure",
    {},
    svg(
      "svg",
      {
        viewBox: `0 0 ${W} ${H}`,
        class: "chart",
        role: "img",
        "aria-label": `${title}: ${shown.map((line) => `${line.name} is ${line.values[at].toFixed(2)}`).join(", ")}`,
      },
      ...ticks.map((v) =>
        svg(
          "g",
          {},
          svg("path", { class: "grid", d: `M${left} ${y(v)}H${W - 8}` }),
          svg(
            "text",
            { x: left - 5, y: y(v) + 4, "text-anchor": "end" },
            decimal(v, Math.abs(high) > 20 ? 0 : 1),
          ),
        ),
      ),
      ...read.read.map((symbol, t) =>
        steps <= 32 ? svg("text", { x: x(t), y: H - 6, "text-anchor": "middle" }, sign(symbol)) : null,
      ),
      ...shown.map((line, k) =>
        svg("path", {
          class: `line c${k % COLOURS}`,
          d: line.values.map((v, t) => `${t ? "L" : "M"}${x(t).toFixed(1)} ${y(v).toFixed(1)}`).join(""),
        }),
      ),
      svg("path", { class: "now-line", d: `M${x(at)} 4V${H - bottom}` }),
    ),
    make(
      "figcaption",
      { class: "legend" },
      ...shown.map((line, k) =>
        make("span", { class: `c${k % COLOURS}` }, make("span", { class: "key" }), line.name),
      ),
    ),
  );
}

/** The path in the plane, with the decision lines and the fixed points. */
function plane() {
  const W = 460,
    H = 360,
    left = 46,
    bottom = 34;
  const [xs, ys] = [0, 1].map((k) => range(read.path.map((point) => point[k])));
  const x = (v) => left + ((v - xs[0]) / (xs[1] - xs[0])) * (W - left - 10),
    y = (v) => 8 + (1 - (v - ys[0]) / (ys[1] - ys[0])) * (H - bottom - 8);
  const decision = read.decision_lines.map((line, k) => {
    const ends = clip(line, xs, ys);
    return (
      ends &&
      svg(
        "g",
        { class: `c${(k + 1) % COLOURS}` },
        svg("path", {
          class: "line dashed",
          d: `M${x(ends[0][0])} ${y(ends[0][1])}L${x(ends[1][0])} ${y(ends[1][1])}`,
        }),
        svg(
          "text",
          { x: x(ends[1][0]) - 4, y: Math.max(18, y(ends[1][1]) - 5), "text-anchor": "end" },
          line.symbols.map(sign).join(" | "),
        ),
      )
    );
  });
  const path = read.path
    .slice(0, at + 1)
    .map(([a, b], t) => `${t ? "L" : "M"}${x(a).toFixed(1)} ${y(b).toFixed(1)}`)
    .join("");
  const points = read.path.map(([a, b], t) =>
    svg(
      "g",
      { class: t > at ? "ahead" : null },
      svg("circle", { cx: x(a), cy: y(b), r: t === at ? 8 : 4, class: t === at ? "here" : "visited" }),
      read.path.length <= 24 ? svg("text", { x: x(a) + 9, y: y(b) - 7 }, sign(read.read[t])) : null,
    ),
  );
  const [across, up] = read.plane.axes;
  find("#plane").replaceChildren(
    svg(
      "svg",
      {
        viewBox: `0 0 ${W} ${H}`,
        class: "chart plane",
        role: "img",
        "aria-label": `The state after ${at} symbols: ${read.path[at].map((v) => v.toFixed(2)).join(", ")}`,
      },
      svg("rect", { class: "frame", x: left, y: 8, width: W - left - 10, height: H - bottom - 8 }),
      ...decision,
      svg("path", { class: "line c0", d: path }),
      ...points,
      svg(
        "text",
        { x: (W + left) / 2, y: H - 8, "text-anchor": "middle" },
        `${across}   ${decimal(xs[0])} … ${decimal(xs[1])}`,
      ),
      svg(
        "text",
        { x: 14, y: H / 2, "text-anchor": "middle", transform: `rotate(-90 14 ${H / 2})` },
        up ? `${up}   ${decimal(ys[0])} … ${decimal(ys[1])}` : "",
      ),
    ),
  );
}

/** The two points where normal · (x, y) + offset = 0 enters and leaves the picture. */
function clip({ normal: [a, b], offset }, xs, ys) {
  const found = [];
  if (b) for (const px of xs) found.push([px, -(offset + a * px) / b]);
  if (a) for (const py of ys) found.push([-(offset + b * py) / a, py]);
  const inside = found.filter(
    ([px, py]) => px >= xs[0] - 1e-9 && px <= xs[1] + 1e-9 && py >= ys[0] - 1e-9 && py <= ys[1] + 1e-9,
  );
  const [one] = inside,
    other = inside.find((p) => one && Math.hypot(p[0] - one[0], p[1] - one[1]) > 1e-6);
  return other ? [one, other].sort((p, q) => p[0] - q[0]) : null;
}
