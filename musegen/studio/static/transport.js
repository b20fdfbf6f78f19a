// Playing the piece on the roll, also while it is being written.
import { clock, find, problem } from "./dom.js";
import { clicked, piece, roll } from "./desk.js";
import { lastEnd } from "./piece.js";
import { ready } from "./piano.js";
import { player } from "./sound.js";

const current = () => ({
  notes: () => piece.notes,
  until: () => piece.seconds,
  loop: () =>
    looping ? (piece.region ? [piece.region.start, piece.region.end] : [0, piece.seconds]) : null,
});
let looping = false;

export function play() {
  if (player.playing && ["editor", "writing"].includes(player.owner)) return player.pause();
  const from = roll.position >= piece.seconds - 0.05 ? 0 : roll.position;
  if (piece.notes.length) return playFrom(from);
  return undefined;
}

export const playFrom = (from) => player.play("editor", from, current());

/** Play what a model is writing, as far as it is written. */
export function listen(from) {
  if (player.owner === "writing") return; // it plays, or was paused
  const notes = () => roll.shown;
  const written = () => (roll.writing ? lastStart(roll.writing) : Infinity);
  if (lastStart(roll.writing) > from + 0.01)
    player.play("writing", from, { notes, written, until: () => lastEnd(roll.shown) });
}
const lastStart = (notes) => notes.reduce((latest, note) => Math.max(latest, note.start), 0);

/** What was played while it was written is the editor's piece now. */
export function adopt() {
  Object.assign(player, { owner: "editor", written: () => Infinity }, current());
}

function seek(time) {
  if (player.owner === "editor" || !player.playing) player.owner = "editor";
  if (player.owner === "editor") player.seek(time);
  roll.showPosition(time);
  showPosition();
}

export function showPosition() {
  const total = lastEnd(roll.shown);
  find("#now").textContent = clock(roll.position);
  find("#total").textContent = clock(total);
  find("#seek").max = Math.max(total, 0.01);
  find("#seek").value = roll.position;
  find("#seek").setAttribute("aria-valuetext", `${clock(roll.position)} of ${clock(total)}`);
}

function frame() {
  if (player.playing && ["editor", "writing"].includes(player.owner)) {
    roll.follow(player.position);
    showPosition();
  }
  requestAnimationFrame(frame);
}
requestAnimationFrame(frame);
player.addEventListener("change", () => {
  const here = player.playing && ["editor", "writing"].includes(player.owner);
  find("#play").classList.toggle("playing", here);
  find("#play").setAttribute("aria-label", here ? "Pause" : "Play");
  if (["editor", "writing"].includes(player.owner)) roll.showPosition(player.position);
  showPosition();
});
piece.addEventListener("seek", ({ detail }) => seek(detail));
clicked("#play", play);
find("#seek").addEventListener("input", (event) => seek(Number(event.target.value)));
clicked("#loop", () => {
  looping = !looping;
  find("#loop").setAttribute("aria-pressed", String(looping));
});

ready.catch(() => {
  problem("This browser cannot decode Ogg Vorbis, so the piano is silent.");
  find("#listen").checked = false;
});
