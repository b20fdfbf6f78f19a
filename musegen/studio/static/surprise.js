// How surprising the model finds the notes, drawn over the roll.
import { work } from "./api.js";
import { clicked, desk, piece, refresh, roll, showWork } from "./desk.js";
import { find, problem } from "./dom.js";

clicked("#surprise", async () => {
  if (roll.surprise) return surpriseOff();
  if (!piece.notes.length || desk.running || !desk.model) return;
  desk.running = new AbortController();
  problem("");
  showWork("Surprise");
  try {
    const found = await work(
      "surprise",
      { model: desk.model.key, notes: piece.rows, tempo: piece.tempo },
      { signal: desk.running.signal },
    );
    if (found) surpriseOn(found.rows);
  } catch (error) {
    problem(error.message);
  } finally {
    desk.running = null;
    refresh();
  }
});

function surpriseOn(rows) {
  const most = (list) => Math.max(1, ...list.map((row) => row[3]));
  const notes = rows.filter((row) => row[2] >= 0),
    frames = rows.filter((row) => row[2] < 0);
  const near = (note) =>
    notes.find(([start, , pitch]) => pitch === note.pitch && Math.abs(start - note.start) < 0.15);
  const byNote = new Map(
    piece.notes.map((note) => [roll.key(note), near(note)?.[3]]).filter(([, nats]) => nats !== undefined),
  );
  roll.surprise = {
    notes: byNote,
    most: most(notes),
    frames: frames.map(([start, end, , nats]) => [start, end, nats]),
    mostOfFrame: most(frames),
  };
  const parts = [
    notes.length ? `notes 0 to ${most(notes).toFixed(1)} nats` : "",
    frames.length ? `frames 0 to ${most(frames).toFixed(1)} nats` : "",
  ];
  const total = rows.reduce((sum, row) => sum + row[3], 0);
  find("#legend-text").textContent =
    `${parts.filter(Boolean).join(", ")}; in total ${total.toFixed(1)} nats`;
  showSurprise();
}

export function surpriseOff() {
  roll.surprise = null;
  showSurprise();
}

function showSurprise() {
  find("#surprise").setAttribute("aria-pressed", String(roll.surprise !== null));
  find("#legend").hidden = !roll.surprise;
  roll.draw();
}
piece.addEventListener("change", surpriseOff);
