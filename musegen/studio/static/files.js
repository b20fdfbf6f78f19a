// What comes in and goes out: MIDI files, keyboards, and files that are kept.
import { work } from "./api.js";
import { all, find, make, problem, say } from "./dom.js";
import { clicked, desk, piece, roll } from "./desk.js";
import { Live } from "./live.js";
import { toNote } from "./piece.js";

let recorded = null; // when the notes that are being played began

async function open(file) {
  try {
    problem("");
    const { notes, tempo } = await work("open", await file.arrayBuffer());
    if (!notes.length) throw new Error(`${file.name}: has no notes`);
    piece.change(notes.map(toNote), { tempo, region: null });
    find("#tempo").value = Math.round(tempo);
    roll.fit();
    say(`${file.name}: ${notes.length} notes`);
  } catch (error) {
    problem(error.message);
  }
}
clicked("#open", () => find("#file").click());
find("#file").addEventListener("change", ({ target }) => {
  if (target.files[0]) open(target.files[0]);
  target.value = "";
});
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  const [file] = event.dataTransfer.files;
  if (file && !find("#music").hidden && !desk.running) open(file);
});

for (const button of all("[data-format]")) {
  button.addEventListener("click", async () => {
    try {
      problem("");
      button.disabled = true;
      const { name } = await work("keep", {
        notes: piece.rows,
        format: button.dataset.format,
        tempo: piece.tempo,
      });
      make("a", { href: `kept/${name}`, download: name }).click();
      say(`kept ${name}`);
    } catch (error) {
      problem(error.message);
    } finally {
      button.disabled = false;
    }
  });
}

const live = new Live((note) => {
  recorded ??= { at: roll.position - note.start };
  const moved = { ...note, start: Math.max(0, note.start + recorded.at), end: note.end + recorded.at };
  piece.change([...piece.notes, moved]);
  roll.follow(moved.end);
});
clicked("#record", () => {
  live.keys = !live.keys;
  recorded = null;
  find("#record").setAttribute("aria-pressed", String(live.keys));
  say(
    live.keys
      ? "the keys from A on play notes, Z and X change the octave"
      : "the keys do not play any more",
  );
});
clicked("#midi", async () => {
  recorded = null;
  try {
    problem("");
    if (live.midi) live.disconnect();
    else if (!(await live.connect()))
      problem("no MIDI keyboard is connected yet; it can be plugged in now");
  } catch (error) {
    problem(error.message);
  }
  find("#midi").setAttribute("aria-pressed", String(live.midi !== null));
});
