// The editor's buttons, fields and keys, and what of them is possible now.
import { all, find } from "./dom.js";
import { clicked, desk, piece, roll } from "./desk.js";
import { play, showPosition } from "./transport.js";

for (const tool of all("[name=tool]")) {
  tool.checked = tool.value === roll.tool;
  tool.addEventListener("change", () => roll.setTool(tool.value));
}
clicked("#undo", () => piece.undo());
clicked("#redo", () => piece.redo());
clicked("#delete", () => piece.remove());
clicked("#zoom-in", () => roll.zoom(1.5));
clicked("#zoom-out", () => roll.zoom(1 / 1.5));
clicked("#fit", () => roll.fit());
clicked("#clear", () => piece.change([], { region: null }));
find("#grid").value = String(roll.grid);
find("#grid").addEventListener("change", (event) => roll.setGrid(Number(event.target.value)));
find("#tempo").value = Math.round(piece.tempo);
find("#tempo").addEventListener("change", ({ target }) => {
  const tempo = Math.min(400, Math.max(20, Number(target.value) || 120));
  target.value = tempo;
  piece.setTempo(tempo);
});
find("#beats").value = piece.beats;
find("#beats").addEventListener("change", ({ target }) => {
  target.value = Math.min(16, Math.max(1, Math.round(Number(target.value)) || 4));
  piece.setBeats(Number(target.value));
});

const SHORTCUTS = {
  " ": play,
  Delete: () => piece.remove(),
  Backspace: () => piece.remove(),
  "+": () => roll.zoom(1.5),
  "=": () => roll.zoom(1.5),
  "-": () => roll.zoom(1 / 1.5),
  l: () => find("#loop").click(),
};
const isCommand = (event) => event.ctrlKey || event.metaKey;
addEventListener("keydown", (event) => {
  // anywhere but in a field, which has its own history
  const key = event.key.toLowerCase();
  if (
    !isCommand(event) ||
    !"zy".includes(key) ||
    desk.running ||
    find("#music").hidden ||
    event.target.matches("input:not([type=radio],[type=checkbox],[type=range])")
  )
    return;
  if (key === "y" || event.shiftKey) piece.redo();
  else piece.undo();
  event.preventDefault();
});
find("#roll").addEventListener("keydown", (event) => {
  const command = isCommand(event),
    key = event.key.toLowerCase();
  let used = true;
  if (command && key === "a") piece.select(piece.notes);
  else if (command || event.altKey) used = false;
  else if (SHORTCUTS[event.key]) SHORTCUTS[event.key]();
  else used = roll.keydown(event);
  if (used) event.preventDefault();
});

function showState() {
  const busy = desk.running !== null,
    empty = !piece.notes.length;
  const can = (selector, possible) => {
    find(selector).disabled = !possible;
  };
  can("#generate", desk.model && !busy);
  can("#continue", desk.model && !busy && !empty);
  can("#another", desk.last && !busy);
  for (const id of ["#rewrite", "#harmonise", "#vary", "#surprise"]) can(id, desk.model && !busy && !empty);
  can("#undo", piece.canUndo && !busy);
  can("#redo", piece.canRedo && !busy);
  can("#delete", piece.selected.size && !busy);
  can("#play", !empty || busy);
  can("#clear", !empty && !busy);
  for (const button of all("[data-format]")) button.disabled = empty;
  if (!busy) find("#work").hidden = true;
  const { region, notes, selected } = piece;
  find("#region-text").textContent = region
    ? `${region.start.toFixed(1)} to ${region.end.toFixed(1)} s, ${region.low === 0 && region.high === 127 ? "all pitches" : `pitches ${region.low} to ${region.high}`}`
    : "All of it. Choose a region with the tool Select, or bars in the ruler.";
  find("#roll-text").textContent =
    `${notes.length} notes${selected.size ? `, ${selected.size} selected` : ""}`;
  showPosition();
}
piece.addEventListener("change", showState);
piece.addEventListener("view", showState);
