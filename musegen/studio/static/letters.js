// The page of characters: names by label, and each letter's alternatives with their probabilities.
import { get, work } from "./api.js";
import { find, make, problem } from "./dom.js";
import { explainBy, field, modelField, values } from "./form.js";

const page = find("#letters");
let model = null,
  running = null,
  wanted = 0,
  shownText = null;

export async function start(entries) {
  const found = entries.filter((entry) => entry.kind === "text");
  const preferred = found.find((entry) => entry.key === "names18") ?? found[0];
  page.replaceChildren(make("h2", { id: "letters-title", class: "hidden" }, "Letters"));
  if (!found.length) {
    page.append(make("p", {}, "There is no model of texts among the runs."));
    return;
  }
  page.append(
    make(
      "div",
      { class: "desk" },
      make(
        "section",
        { class: "card", "aria-labelledby": "write-title" },
        make(
          "div",
          { class: "card-head" },
          make("h3", { id: "write-title" }, "Write"),
          make("button", { id: "explain-texts", type: "button", "aria-pressed": "false" }, "Explain"),
        ),
        modelField("text-model", found, choose),
        make("div", { id: "text-settings", class: "fields" }),
        make(
          "div",
          { class: "buttons" },
          make("button", { id: "write", class: "main", type: "button", onclick: write }, "Generate"),
          make(
            "button",
            { id: "text-stop", type: "button", disabled: true, onclick: () => running?.abort() },
            "Stop",
          ),
        ),
      ),
      make(
        "div",
        { class: "stack" },
        make(
          "section",
          { class: "card", "aria-labelledby": "texts-title" },
          make("h3", { id: "texts-title" }, "Texts"),
          make(
            "p",
            { id: "no-texts", class: "muted" },
            "Generated texts appear here. Choose one to see its letters.",
          ),
          make("div", { id: "texts", class: "buttons" }),
        ),
        make(
          "section",
          { class: "card", "aria-labelledby": "letters-of" },
          make("h3", { id: "letters-of" }, "Letter by letter"),
          make(
            "div",
            { class: "pair wide-pair" },
            make(
              "div",
              { class: "field" },
              make("label", { for: "text" }, "Text"),
              make("input", {
                id: "text",
                type: "text",
                maxlength: 60,
                oninput: later,
                autocomplete: "off",
                spellcheck: "false",
              }),
            ),
            make(
              "div",
              { class: "field", id: "label-field" },
              make("label", { for: "read-as" }, "read as"),
              make("select", { id: "read-as", onchange: look }),
            ),
          ),
          make("p", { id: "letters-text", class: "muted" }),
          make("ol", {
            id: "steps",
            class: "steps",
            "aria-label": "Letters and their alternatives",
          }),
        ),
      ),
    ),
  );
  explainBy(find("#explain-texts"), find("#text-settings"));
  find("#text-model").value = preferred.key;
  await choose();
}

async function choose() {
  try {
    problem("");
    model = await get(`api/models/${encodeURI(find("#text-model").value)}`);
  } catch (error) {
    return problem(error.message);
  }
  const shown = model.settings;
  for (const setting of shown)
    if (setting.name === "n") Object.assign(setting, { default: 8, title: "How many" });
  for (const setting of shown) if (setting.name === "label") setting.required = true;
  find("#text-settings").replaceChildren(...shown.map((setting) => field(setting, undefined, "texts")));
  find("#read-as").replaceChildren(...model.labels.map((label) => make("option", { value: label }, label)));
  find("#label-field").hidden = !model.labels.length;
  if (model.labels.includes("Japanese"))
    find("#read-as").value = find("#text-settings [data-setting=label]").value = "Japanese";
  find("#texts").replaceChildren();
  find("#no-texts").hidden = false;
  find("#text").value = model.labels.length ? "Tanaka" : "";
  await look();
}

async function write() {
  if (running) return;
  running = new AbortController();
  find("#write").disabled = true;
  find("#text-stop").disabled = false;
  problem("");
  try {
    const result = await work(
      "texts",
      { model: model.key, settings: values(find("#text-settings")) },
      {
        signal: running.signal,
        on: { progress: ({ texts }) => list(texts) },
      },
    );
    if (result) list(result.texts);
  } catch (error) {
    problem(error.message);
  }
  running = null;
  find("#write").disabled = false;
  find("#text-stop").disabled = true;
}

function list(texts) {
  find("#no-texts").hidden = texts.length > 0;
  find("#texts").replaceChildren(
    ...texts.map(([label, text]) =>
      make(
        "button",
        {
          type: "button",
          class: "name",
          onclick: () => {
            find("#text").value = text;
            if (label) find("#read-as").value = label;
            look();
          },
        },
        text || "(empty)",
      ),
    ),
  );
}

function later() {
  clearTimeout(wanted);
  wanted = setTimeout(look, 250);
}

async function look() {
  const text = find("#text").value;
  const asked = { model: model.key, text, label: model.labels.length ? find("#read-as").value : null };
  shownText = asked;
  try {
    problem("");
    const { steps } = text || model.labels.length ? await work("letters", asked) : { steps: [] };
    if (shownText === asked) show(steps);
  } catch (error) {
    problem(error.message);
  }
}

const visibleName = (character) => ({ " ": "␣", "\n": "↵" })[character] ?? character;
const percent = (p) =>
  p >= 0.0995 ? `${Math.round(100 * p)} %` : p >= 0.001 ? `${(100 * p).toFixed(1)} %` : "< 0.1 %";

function show(steps) {
  const nats = -steps.reduce((sum, step) => sum + Math.log(step.probability), 0);
  find("#letters-text").textContent = steps.length
    ? `The whole text costs ${nats.toFixed(2)} nats, ${(nats / steps.length / Math.LN2).toFixed(2)} bits per character.`
    : "";
  find("#steps").replaceChildren(
    ...steps.map((step) => {
      const rows = step.likeliest.map(([character, p]) => {
        const bar = make("span", { class: "bar-of", "aria-hidden": "true" });
        bar.style.setProperty("--p", p);
        return make(
          "li",
          { class: character === step.character ? "chosen" : null },
          make("b", {}, visibleName(character)),
          bar,
          make("span", { class: "muted" }, percent(p)),
        );
      });
      const known = step.likeliest.some(([character]) => character === step.character);
      return make(
        "li",
        { class: "step" },
        make("span", { class: "letter" }, visibleName(step.character)),
        make(
          "span",
          { class: "muted" },
          known ? percent(step.probability) : `${percent(step.probability)}, not among these`,
        ),
        make("ul", {}, ...rows),
      );
    }),
  );
}
