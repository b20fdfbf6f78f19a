// Small helpers for elements of the page.
export const find = (selector, root = document) => root.querySelector(selector);
export const all = (selector, root = document) => [...root.querySelectorAll(selector)];

/** A new element: make("button", { type: "button", onclick: f, class: "main" }, "Text", child). */
export function make(name, attributes = {}, ...children) {
  const element = name.startsWith("svg:")
    ? document.createElementNS("http://www.w3.org/2000/svg", name.slice(4))
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "value") element.value = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Show an error as one line; "" hides it. */
export function problem(text) {
  find("#problem").textContent = text;
  if (text) find("#problem").scrollIntoView({ block: "nearest" });
}

/** Say something to screen readers. */
export const say = (text) => {
  find("#status").textContent = text;
};

export const clock = (s) => `${Math.floor(s / 60)}:${String(Math.floor(s % 60)).padStart(2, "0")}`;
const NAMES = ["C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B"];
export const pitchName = (pitch) => `${NAMES[pitch % 12]}${Math.floor(pitch / 12) - 1}`;
export const isBlack = (pitch) => [1, 3, 6, 8, 10].includes(pitch % 12);

/** The page's colours, which differ between light and dark. */
export function colours() {
  const style = getComputedStyle(document.documentElement);
  return new Proxy({}, { get: (_, name) => style.getPropertyValue(`--${name}`).trim() });
}
export const onColours = (draw) =>
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

/** A canvas whose pixels are those of the screen; returns its context and its size in CSS pixels. */
export function sharp(canvas, width, height) {
  const ratio = Math.min(devicePixelRatio || 1, 2.5);
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return context;
}
