// What the parts of the page of music share: the piece, its roll, the model and its work.
import { find } from "./dom.js";
import { Piece } from "./piece.js";
import { Roll } from "./roll.js";

export const desk = {
  model: null, // what the server says of the chosen model
  running: null, // the AbortController of the work that is being done
  last: null, // the last request, for another one like it
};
export const piece = new Piece();
export const roll = new Roll(find("#roll"), find("#scroll"), find("#space"), piece, {
  seek: (time) => piece.dispatchEvent(new CustomEvent("seek", { detail: time })),
});

export const clicked = (selector, action) => find(selector).addEventListener("click", action);

/** Show what is possible now. */
export const refresh = () => piece.dispatchEvent(new Event("view"));

/** Show what the server works on, and how far it is. */
export function showWork(text, fraction = null) {
  find("#work").hidden = false;
  find("#work-text").textContent = text;
  if (fraction === null) find("#progress").removeAttribute("value");
  else find("#progress").value = fraction;
  refresh();
}
