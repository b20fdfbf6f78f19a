// Fields for the settings of a model, from what the server says of them.
import { make } from "./dom.js";

/** "top_p" → "Top p". */
const title = (name) => (name[0].toUpperCase() + name.slice(1)).replaceAll("_", " ");

function input(setting, id, value) {
  const { kind, choices, whole } = setting;
  if (kind === "choice") {
    const options = choices.map((choice) => make("option", { value: String(choice) }, String(choice)));
    const none = setting.required ? [] : [make("option", { value: "" }, "as the model does")];
    return make("select", { id, value }, ...none, ...options);
  }
  if (kind === "switch") return make("input", { id, type: "checkbox", checked: value === true });
  if (kind === "number") {
    const { min, max } = setting;
    return make("input", { id, type: "number", min, max, step: whole ? 1 : "any", value: value ?? "" });
  }
  return make("input", { id, type: "text", value: value ?? "" });
}

export const modelOptions = (models) =>
  models.map((model) => make("option", { value: model.key }, model.name));

/** A field in which one chooses a model. */
export const modelField = (id, models, onchange) =>
  make(
    "div",
    { class: "field" },
    make("label", { for: id }, "Model"),
    make("select", { id, onchange }, ...modelOptions(models)),
  );

/** A field with its label and its explanation. */
export function field(setting, value, prefix = "setting") {
  const id = `${prefix}-${setting.name}`;
  const shown = value ?? setting.default;
  const control = input(setting, id, shown === null || shown === undefined ? "" : shown);
  if (setting.kind === "choice")
    control.value =
      shown === null || shown === undefined ? (setting.required ? setting.choices[0] : "") : String(shown);
  control.setAttribute("aria-describedby", `${id}-text`);
  control.dataset.setting = setting.name;
  control.dataset.kind = setting.kind;
  return make(
    "div",
    { class: "field" },
    make("label", { for: id }, setting.title ?? title(setting.name)),
    control,
    make("small", { id: `${id}-text`, class: "muted" }, setting.text),
  );
}

/** The values that are filled in, by the names of the settings. */
export function values(...places) {
  const found = {};
  for (const control of places.flatMap((place) => [...place.querySelectorAll("[data-setting]")])) {
    const { setting, kind } = control.dataset;
    if (kind === "switch") found[setting] = control.checked;
    else if (control.value !== "")
      found[setting] = kind === "number" ? Number(control.value) : control.value;
  }
  return found;
}

export const setValue = (place, name, value) => {
  const control = place.querySelector(`[data-setting="${name}"]`);
  if (control) control.value = value;
};

/** Let a button show and hide the explanations of the fields in a place. */
export function explainBy(button, place) {
  button.addEventListener("click", () => {
    const shown = place.classList.toggle("explained");
    button.setAttribute("aria-pressed", String(shown));
  });
}
