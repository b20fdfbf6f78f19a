// The page of music: what the chosen model writes, and the parts of the page.
import { get, work } from "./api.js";
import { clicked, desk, piece, refresh, roll, showWork } from "./desk.js";
import { find, make, problem, say } from "./dom.js";
import "./files.js";
import { explainBy, field, modelOptions, setValue, values } from "./form.js";
import { lastEnd, toNote } from "./piece.js";
import { player } from "./sound.js";
import { store, stored } from "./store.js";
import { surpriseOff } from "./surprise.js";
import { Takes } from "./takes.js";
import "./tools.js";
import { adopt, listen, playFrom } from "./transport.js";

const BASIC = ["n", "seed", "temperature", "top_p"];
const OF_THE_PAGE = ["length", "tempo", "time_signature"];
const NAMES = { n: "How many", top_p: "Top p", max_hold: "Longest hold" };

const takes = new Takes({
  edit: (take) => {
    piece.change(take.rows.map(toNote), { region: null, tempo: take.tempo });
    find("#tempo").value = take.tempo;
    roll.fit();
    find("#roll").focus();
  },
});

// --- Models and settings -----------------------------------------------------------------------

export async function start(entries) {
  const music = entries.filter((entry) => entry.kind === "music");
  find("#model").replaceChildren(...modelOptions(music));
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
  desk.model = null;
  refresh();
  try {
    const found = await get(`api/models/${encodeURI(key)}`);
    if (find("#model").value !== key) return; // another one was chosen meanwhile
    desk.model = found;
  } catch (error) {
    return problem(error.message);
  }
  store("model", key);
  find("#model-text").textContent = texts[key];
  const old = stored("settings", {})[key] ?? {};
  const shown = desk.model.settings.filter((s) => !OF_THE_PAGE.includes(s.name));
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
  find("#unit option[value=steps]").textContent = desk.model.step_seconds ? "frames" : "messages";
  surpriseOff();
  refresh();
}

const settings = () => values(find("#settings"), find("#more"));
const has = (name) => desk.model.settings.some((setting) => setting.name === name);

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
  const length = Number(find("#length").value),
    unit = find("#unit").value;
  const chosen = settings();
  if (has("tempo") && !notes.length) chosen.tempo = piece.tempo;
  if (has("time_signature")) chosen.time_signature = [piece.beats, 4];
  const body = { model: desk.model.key, settings: chosen, notes, tempo: piece.tempo };
  if (unit === "steps") chosen.length = Math.round(length);
  else body.seconds = length * (unit === "bars" ? piece.bar : 1);
  return body;
}

function regionRequest(region, more = {}) {
  const { n = 1, seed = 0, temperature = 1 } = settings();
  const { start, end, low, high } = region;
  return {
    model: desk.model.key,
    notes: piece.rows,
    start,
    end,
    low,
    high,
    tempo: piece.tempo,
    n,
    seed,
    temperature,
    ...more,
  };
}

const factsOf = ({ settings: chosen, model: key, notes, seconds, start, end, ...rest }) => ({
  model: find(`#model option[value="${CSS.escape(key)}"]`)?.textContent ?? key,
  ...Object.fromEntries(
    Object.entries({ ...rest, ...chosen }).filter(
      ([name]) => !["n", "tempo", "low", "high", "time_signature"].includes(name),
    ),
  ),
  ...(seconds ? { seconds: Number(seconds.toFixed(2)) } : {}),
  ...(end !== undefined ? { region: `${start.toFixed(1)} to ${end.toFixed(1)} s` } : {}),
});

async function perform(title, path, body) {
  if (desk.running || !desk.model) return;
  problem("");
  desk.last = { title, path, body };
  desk.running = new AbortController();
  let newest = [];
  const prime = body.settings && body.notes.length ? lastEnd(body.notes.map(toNote)) : 0;
  const heard = find("#listen").checked && path === "generate";
  showWork(title);
  try {
    const result = await work(path, body, {
      signal: desk.running.signal,
      on: {
        waiting: ({ ahead }) =>
          showWork(ahead ? `Waiting for ${ahead} other request${ahead > 1 ? "s" : ""}` : title),
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
    // A piece that was written faster than it is shown has not been heard yet.
    if (player.owner === "writing") adopt();
    else if (heard && result) playFrom(prime);
  } catch (error) {
    roll.write(null);
    if (player.owner === "writing") player.pause();
    player.owner = null;
    problem(error.message);
  } finally {
    desk.running = null;
    refresh();
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
  say(`${told}, ${pieces[0]?.length ?? 0} notes`);
}

const whole = () => piece.region ?? { start: 0, end: piece.seconds, low: 0, high: 127 };
clicked("#generate", () => perform("Generate", "generate", newMusic([])));
clicked("#continue", () => perform("Continue", "generate", newMusic(piece.rows)));
clicked("#rewrite", () => perform("Rewrite", "rewrite", regionRequest(whole())));
clicked("#harmonise", () =>
  perform("Harmonise", "rewrite", regionRequest(whole(), { low: 0, high: 127, keep: "melody" })),
);
clicked("#vary", () => perform("Vary", "rewrite", regionRequest(whole(), { weak_beats: true })));
clicked("#stop", () => desk.running?.abort());
clicked("#another", () => {
  const { title, path, body } = desk.last,
    seed = (body.settings ?? body).seed ?? 0;
  const next = { seed: (seed + 1) % 2 ** 32 };
  setValue(find("#music"), "seed", next.seed);
  rememberSettings();
  perform(
    title,
    path,
    body.settings ? { ...body, settings: { ...body.settings, ...next } } : { ...body, ...next },
  );
});

refresh();
