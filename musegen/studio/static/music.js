// The page of music: generate, edit, continue, rewrite, listen, keep.
import { get, work } from "./api.js";
import { all, clock, find, make, problem, say } from "./dom.js";
import { explainBy, field, setValue, values } from "./form.js";
import { Live } from "./live.js";
import { lastEnd, Piece, toNote } from "./piece.js";
import { Roll } from "./roll.js";
import { player } from "./sound.js";
import { store, stored } from "./store.js";
import { Takes } from "./takes.js";

const BASIC = ["n", "seed", "temperature", "top_p"];
const OF_THE_PAGE = ["length", "tempo", "time_signature"];
const NAMES = { n: "How many", top_p: "Top p", max_hold: "Longest hold" };

const piece = new Piece();
const roll = new Roll(find("#roll"), find("#scroll"), find("#space"), piece, { seek });
const takes = new Takes({ edit: (take) => {
  piece.change(take.rows.map(toNote), { region: null, tempo: take.tempo });
  find("#tempo").value = take.tempo;
  roll.fit();
  find("#roll").focus();
} });
let model = null; // what the server says of the chosen model
let running = null; // the AbortController of the work that is being done
let last = null; // the last request, for another one like it
let recorded = null; // notes that are being played, and when they began

// --- Models and settings -----------------------------------------------------------------------

export async function start(entries) {
  const music = entries.filter((entry) => entry.kind === "music");
  find("#model").replaceChildren(...music.map((entry) => make("option", { value: entry.key }, entry.name)));
  const wanted = stored("model", music.find((entry) => entry.key === "jsb")?.key);
  const first = music[0]?.key === "run" ? "run" : wanted;
  find("#model").value = music.some((entry) => entry.key === first) ? first : music[0]?.key;
  find("#model").addEventListener("change", choose);
  texts = Object.fromEntries(music.map((entry) => [entry.key, entry.text]));
  await choose();
}
let texts = {};

async function choose() {
  const key = find("#model").value;
  if (!key) return;
  model = null;
  showState();
  try {
    const found = await get(`api/models/${encodeURI(key)}`);
    if (find("#model").value !== key) return; // another one was chosen meanwhile
    model = found;
  } catch (error) {
    return problem(error.message);
  }
  store("model", key);
  find("#model-text").textContent = texts[key];
  const old = stored("settings", {})[key] ?? {};
  const shown = model.settings.filter((s) => !OF_THE_PAGE.includes(s.name));
  for (const setting of shown) {
    setting.title = NAMES[setting.name];
    if (setting.name === "n") setting.default = 1;
    if (setting.name === "label") setting.required = true;
  }
  const basic = shown.filter((s) => BASIC.includes(s.name) || s.name === "label");
  const more = shown.filter((s) => !basic.includes(s));
  find("#settings").replaceChildren(...basic.map((s) => field(s, old[s.name])));
  find("#more").replaceChildren(...more.map((s) => field(s, old[s.name])));
  find("#more").parentElement.hidden = !more.length;
  find("#unit option[value=steps]").textContent = model.step_seconds ? "frames" : "messages";
  surpriseOff();
  showState();
}

const settings = () => values(find("#settings"), find("#more"));
const has = (name) => model.settings.some((setting) => setting.name === name);

function rememberSettings() {
  store("settings", { ...stored("settings", {}), [find("#model").value]: settings() });
  store("length", [find("#length").value, find("#unit").value]);
}
find(".make").addEventListener("change", rememberSettings);
explainBy(find("#explain"), find("#settings"));
[find("#length").value, find("#unit").value] = stored("length", ["8", "bars"]);

// --- Work of the model -------------------------------------------------------------------------

/** The request for new music; `notes` are those that it continues. */
function newMusic(notes) {
  const length = Number(find("#length").value), unit = find("#unit").value;
  const chosen = settings();
  if (has("tempo") && !notes.length) chosen.tempo = piece.tempo;
  if (has("time_signature")) chosen.time_signature = [piece.beats, 4];
  const body = { model: model.key, settings: chosen, notes, tempo: piece.tempo };
  if (unit === "steps") chosen.length = Math.round(length);
  else body.seconds = length * (unit === "bars" ? piece.bar : 1);
  return body;
}

function regionRequest(region, more = {}) {
  const { n = 1, seed = 0, temperature = 1 } = settings();
  const { start, end, low, high } = region;
  return { model: model.key, notes: piece.rows, start, end, low, high, tempo: piece.tempo, n, seed, temperature, ...more };
}

const factsOf = ({ settings: chosen, model: key, notes, seconds, start, end, ...rest }) => ({
  model: find(`#model option[value="${CSS.escape(key)}"]`)?.textContent ?? key,
  ...Object.fromEntries(Object.entries({ ...rest, ...chosen }).filter(([name]) => !["n", "tempo", "low", "high", "time_signature"].includes(name))),
  ...(seconds ? { seconds: Number(seconds.toFixed(2)) } : {}),
  ...(end !== undefined ? { region: `${start.toFixed(1)} to ${end.toFixed(1)} s` } : {}),
});

async function perform(title, path, body) {
  if (running || !model) return;
  problem("");
  last = { title, path, body };
  running = new AbortController();
  let newest = [];
  const prime = body.settings && body.notes.length ? lastEnd(body.notes.map(toNote)) : 0;
  const heard = find("#listen").checked && path === "generate";
  showWork(title);
  try {
    const result = await work(path, body, {
      signal: running.signal,
      on: {
        waiting: ({ ahead }) => showWork(ahead ? `Waiting for ${ahead} other request${ahead > 1 ? "s" : ""}` : title),
        progress: ({ fraction, pieces }) => {
          showWork(title, fraction);
          if (!pieces) return;
          newest = pieces;
          roll.write(pieces[0].map(toNote));
          if (heard) listen(prime);
        },
      },
    });
    finish(title, result ?? { pieces: newest }, body, result === null);
  } catch (error) {
    roll.write(null);
    if (player.owner === "writing") player.pause();
    problem(error.message);
  } finally {
    running = null;
    showState();
  }
}

function finish(title, { pieces, cut, labels }, body, stopped) {
  const told = stopped ? `${title}: stopped` : `${title}: done`;
  roll.write(null);
  if (pieces[0]?.length) {
    const facts = { ...factsOf(body), ...(labels?.[0] ? { label: labels[0] } : {}) };
    takes.add(title.toLowerCase(), facts, pieces, { tempo: piece.tempo, cut });
    piece.change(pieces[0].map(toNote));
    if (!body.notes?.length) roll.fit();
  }
  if (!stopped && !pieces[0]?.length) problem("The model wrote no notes; try another seed.");
  if (player.owner === "writing") adopt();
  say(`${told}, ${pieces[0]?.length ?? 0} notes`);
}

function showWork(text, fraction = null) {
  find("#work").hidden = false;
  find("#work-text").textContent = text;
  if (fraction === null) find("#progress").removeAttribute("value");
  else find("#progress").value = fraction;
  showState();
}

const whole = () => piece.region ?? { start: 0, end: piece.seconds, low: 0, high: 127 };
const clicked = (selector, action) => find(selector).addEventListener("click", action);
clicked("#generate", () => perform("Generate", "generate", newMusic([])));
clicked("#continue", () => perform("Continue", "generate", newMusic(piece.rows)));
clicked("#rewrite", () => perform("Rewrite", "rewrite", regionRequest(whole())));
clicked("#harmonise", () => perform("Harmonise", "rewrite", regionRequest(whole(), { low: 0, high: 127, keep: "melody" })));
clicked("#vary", () => perform("Vary", "rewrite", regionRequest(whole(), { weak_beats: true })));
clicked("#stop", () => running?.abort());
clicked("#another", () => {
  const { title, path, body } = last, seed = (body.settings ?? body).seed ?? 0;
  const next = { seed: (seed + 1) % 2 ** 32 };
  setValue(find("#music"), "seed", next.seed);
  rememberSettings();
  perform(title, path, body.settings ? { ...body, settings: { ...body.settings, ...next } } : { ...body, ...next });
});

// --- Surprise ----------------------------------------------------------------------------------

clicked("#surprise", async () => {
  if (roll.surprise) return surpriseOff();
  if (!piece.notes.length || running || !model) return;
  running = new AbortController();
  problem("");
  showWork("Surprise");
  try {
    const found = await work("surprise", { model: model.key, notes: piece.rows, tempo: piece.tempo }, { signal: running.signal });
    if (found) surpriseOn(found.rows);
  } catch (error) {
    problem(error.message);
  } finally {
    running = null;
    showState();
  }
});

function surpriseOn(rows) {
  const most = (list) => Math.max(1, ...list.map((row) => row[3]));
  const notes = rows.filter((row) => row[2] >= 0), frames = rows.filter((row) => row[2] < 0);
  const near = (note) => notes.find(([start, , pitch]) => pitch === note.pitch && Math.abs(start - note.start) < 0.15);
  const byNote = new Map(piece.notes.map((note) => [roll.key(note), near(note)?.[3]]).filter(([, nats]) => nats !== undefined));
  roll.surprise = {
    notes: byNote, most: most(notes),
    frames: frames.map(([start, end, , nats]) => [start, end, nats]), mostOfFrame: most(frames),
  };
  const parts = [notes.length ? `notes 0 to ${most(notes).toFixed(1)} nats` : "", frames.length ? `frames 0 to ${most(frames).toFixed(1)} nats` : ""];
  const total = rows.reduce((sum, row) => sum + row[3], 0);
  find("#legend-text").textContent = `${parts.filter(Boolean).join(", ")}; in total ${total.toFixed(1)} nats`;
  showSurprise();
}

function surpriseOff() {
  roll.surprise = null;
  showSurprise();
}

function showSurprise() {
  find("#surprise").setAttribute("aria-pressed", String(roll.surprise !== null));
  find("#legend").hidden = !roll.surprise;
  roll.draw();
}

// --- Playing -----------------------------------------------------------------------------------

const current = () => ({
  notes: () => piece.notes, until: () => piece.seconds,
  loop: () => (looping ? (piece.region ? [piece.region.start, piece.region.end] : [0, piece.seconds]) : null),
});
let looping = false;

function play() {
  if (player.playing && ["editor", "writing"].includes(player.owner)) return player.pause();
  const from = roll.position >= piece.seconds - 0.05 ? 0 : roll.position;
  if (piece.notes.length) return player.play("editor", from, current());
  return undefined;
}

/** Play what a model is writing, as far as it is written. */
function listen(from) {
  if (player.owner === "writing" && player.playing) return;
  const notes = () => roll.shown;
  const written = () => (roll.writing ? lastStart(roll.writing) : Infinity);
  if (lastStart(roll.writing) > from + 0.01) player.play("writing", from, { notes, written, until: () => lastEnd(roll.shown) });
}
const lastStart = (notes) => notes.reduce((latest, note) => Math.max(latest, note.start), 0);

/** What was played while it was written is the editor's piece now. */
function adopt() {
  Object.assign(player, { owner: "editor", written: () => Infinity }, current());
}

function seek(time) {
  if (player.owner === "editor" || !player.playing) player.owner = "editor";
  if (player.owner === "editor") player.seek(time);
  roll.showPosition(time);
  showPosition();
}

function showPosition() {
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
clicked("#play", play);
find("#seek").addEventListener("input", (event) => seek(Number(event.target.value)));
clicked("#loop", () => {
  looping = !looping;
  find("#loop").setAttribute("aria-pressed", String(looping));
});

// --- Tools of the editor -----------------------------------------------------------------------

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
  " ": play, Delete: () => piece.remove(), Backspace: () => piece.remove(), "+": () => roll.zoom(1.5), "=": () => roll.zoom(1.5),
  "-": () => roll.zoom(1 / 1.5), l: () => find("#loop").click(),
};
const isCommand = (event) => event.ctrlKey || event.metaKey;
addEventListener("keydown", (event) => { // anywhere but in a field, which has its own history
  const key = event.key.toLowerCase();
  if (!isCommand(event) || !"zy".includes(key) || running || find("#music").hidden || event.target.matches("input:not([type=radio],[type=checkbox],[type=range])")) return;
  if (key === "y" || event.shiftKey) piece.redo();
  else piece.undo();
  event.preventDefault();
});
find("#roll").addEventListener("keydown", (event) => {
  const command = isCommand(event), key = event.key.toLowerCase();
  let used = true;
  if (command && key === "a") piece.select(piece.notes);
  else if (command || event.altKey) used = false;
  else if (SHORTCUTS[event.key]) SHORTCUTS[event.key]();
  else used = roll.keydown(event);
  if (used) event.preventDefault();
});

function showState() {
  const busy = running !== null, empty = !piece.notes.length;
  const can = (selector, possible) => { find(selector).disabled = !possible; };
  can("#generate", model && !busy);
  can("#continue", model && !busy && !empty);
  can("#another", last && !busy);
  for (const id of ["#rewrite", "#harmonise", "#vary", "#surprise"]) can(id, model && !busy && !empty);
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
  find("#roll-text").textContent = `${notes.length} notes${selected.size ? `, ${selected.size} selected` : ""}`;
  showPosition();
}
piece.addEventListener("change", () => { surpriseOff(); showState(); });
piece.addEventListener("view", showState);

// --- Input and output --------------------------------------------------------------------------

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
find("#file").addEventListener("change", ({ target }) => { if (target.files[0]) open(target.files[0]); target.value = ""; });
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  const [file] = event.dataTransfer.files;
  if (file && !find("#music").hidden && !running) open(file);
});

for (const button of all("[data-format]")) {
  button.addEventListener("click", async () => {
    try {
      problem("");
      button.disabled = true;
      const { name } = await work("keep", { notes: piece.rows, format: button.dataset.format, tempo: piece.tempo });
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
  say(live.keys ? "the keys from A on play notes, Z and X change the octave" : "the keys do not play any more");
});
clicked("#midi", async () => {
  recorded = null;
  try {
    problem("");
    if (live.midi) live.disconnect();
    else if (!(await live.connect())) problem("no MIDI keyboard is connected yet; it can be plugged in now");
  } catch (error) {
    problem(error.message);
  }
  find("#midi").setAttribute("aria-pressed", String(live.midi !== null));
});
showState();
