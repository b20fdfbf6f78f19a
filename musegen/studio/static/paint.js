// How a piano-roll is drawn: the editor's, and the small ones of takes.
import { colours, isBlack, pitchName, sharp } from "./dom.js";
import { lastEnd } from "./piece.js";

export const KEYS = 46,
  RULER = 20;

/** A small roll that shows all notes at once. */
export function paintSmall(canvas, notes, { position = null, cut = 0 } = {}) {
  const width = canvas.clientWidth,
    height = canvas.clientHeight;
  if (!width) return;
  const context = sharp(canvas, width, height),
    colour = colours();
  const pitches = notes.map((note) => note.pitch);
  const low = Math.min(...pitches, 60) - 2,
    high = Math.max(...pitches, 67) + 2;
  const x = width / Math.max(lastEnd(notes), 1),
    y = height / (high - low + 1);
  context.clearRect(0, 0, width, height);
  context.fillStyle = colour.c0;
  for (const note of notes) {
    context.globalAlpha = note.end <= cut + 1e-6 ? 0.45 : 1;
    context.fillRect(
      note.start * x,
      (high - note.pitch) * y,
      Math.max((note.end - note.start) * x - 0.5, 1),
      Math.max(y - 0.3, 1.2),
    );
  }
  context.globalAlpha = 1;
  if (position !== null) {
    context.fillStyle = colour.head;
    context.fillRect(position * x - 1, 0, 2, height);
  }
}

/** The editor's roll; `view` says where it is (see roll.js). */
export function paintRoll(context, view) {
  const { width, height } = view,
    colour = colours();
  context.clearRect(0, 0, width, height);
  context.save();
  context.beginPath();
  context.rect(KEYS, RULER, width - KEYS, height - RULER);
  context.clip();
  rows(context, view, colour);
  grid(context, view, colour);
  region(context, view, colour);
  notes(context, view, colour);
  frames(context, view, colour);
  if (!view.shown.length) hint(context, view, colour);
  cursor(context, view, colour);
  context.restore();
  keys(context, view, colour);
  ruler(context, view, colour);
  playhead(context, view, colour);
}

function rows(context, view, colour) {
  context.fillStyle = colour.ink;
  for (let pitch = view.lowest; pitch <= view.highest; pitch++) {
    const y = view.y(pitch);
    if (y > view.height || y + view.row < RULER) continue;
    context.globalAlpha = isBlack(pitch) ? 0.045 : 0;
    context.fillRect(KEYS, y, view.width, view.row);
    if (pitch % 12 === 0) {
      context.globalAlpha = 0.16;
      context.fillRect(KEYS, y + view.row - 0.5, view.width, 1);
    }
  }
  context.globalAlpha = 1;
}

function grid(context, view, colour) {
  const { beat, bar } = view.piece;
  const step = beat * view.scale > 9 ? beat : bar;
  context.fillStyle = colour.ink;
  for (let i = Math.floor(view.time(KEYS) / step); i * step <= view.time(view.width); i++) {
    const isBar = Math.abs((i * step) / bar - Math.round((i * step) / bar)) < 1e-6;
    context.globalAlpha = isBar ? 0.22 : 0.08;
    context.fillRect(view.x(i * step) - 0.5, RULER, 1, view.height);
  }
  context.globalAlpha = 1;
}

function region(context, view, colour) {
  const box = view.box ?? view.piece.region;
  if (!box) return;
  const [x, y] = [view.x(box.start), view.y(box.high)];
  const [w, h] = [(box.end - box.start) * view.scale, (box.high - box.low + 1) * view.row];
  context.fillStyle = context.strokeStyle = colour.c1;
  context.globalAlpha = 0.12;
  context.fillRect(x, y, w, h);
  context.globalAlpha = 0.9;
  context.setLineDash([5, 4]);
  context.lineWidth = 1.5;
  context.strokeRect(x, y, w, h);
  context.setLineDash([]);
  context.globalAlpha = 1;
}

function notes(context, view, colour) {
  const surprise = view.surprise?.notes;
  context.font = `${Math.max(9, Math.min(11, view.row - 2))}px system-ui, sans-serif`;
  for (const note of view.shown) {
    const x = view.x(note.start),
      w = Math.max((note.end - note.start) * view.scale - 1, 2);
    const y = view.y(note.pitch);
    if (x > view.width || x + w < KEYS || y > view.height || y + view.row < RULER) continue;
    const nats = surprise?.get(view.key(note));
    const chosen = view.chosen.has(note);
    context.fillStyle =
      nats === undefined ? (view.writing ? colour.c2 : colour.c0) : ramp(nats, view.surprise.most);
    context.globalAlpha = nats === undefined ? 0.45 + 0.55 * (note.velocity / 127) : 1;
    context.beginPath();
    context.roundRect(x, y + 0.5, w, view.row - 1, Math.min(3, view.row / 3));
    context.fill();
    context.globalAlpha = 1;
    if (chosen) {
      context.strokeStyle = colour.ink;
      context.lineWidth = 2;
      context.stroke();
    }
    if (nats !== undefined && w > 26 && view.row >= 9) {
      context.fillStyle = nats / view.surprise.most > 0.45 ? "#fff" : "#15171c";
      context.fillText(nats.toFixed(1), x + 4, y + view.row / 2 + 3.5);
    }
  }
}

/** Whole frames or messages of the surprise overlay: bars at the lower edge. */
function frames(context, view, colour) {
  const found = view.surprise?.frames;
  if (!found?.length) return;
  const height = 46,
    foot = view.height;
  context.fillStyle = colour.card;
  context.globalAlpha = 0.85;
  context.fillRect(KEYS, foot - height, view.width, height);
  context.globalAlpha = 1;
  for (const [start, end, nats] of found) {
    const h = (height - 6) * Math.min(1, nats / view.surprise.mostOfFrame);
    context.fillStyle = ramp(nats, view.surprise.mostOfFrame);
    context.fillRect(view.x(start), foot - h, Math.max((end - start) * view.scale - 1, 1.5), h);
  }
}

/** From teal (expected) over yellow to red (surprising); light and dark pages use the same. */
export function ramp(nats, most) {
  const stops = [
    [94, 196, 182],
    [247, 206, 90],
    [226, 96, 52],
    [164, 22, 60],
  ];
  const place = Math.max(0, Math.min(0.9999, nats / most)) * (stops.length - 1);
  const i = Math.floor(place),
    t = place - i;
  return `rgb(${stops[i].map((a, k) => Math.round(a + t * (stops[i + 1][k] - a))).join(" ")})`;
}

function hint(context, view, colour) {
  context.fillStyle = colour.muted;
  context.font = "15px system-ui, sans-serif";
  context.textAlign = "center";
  ["Generate, open a MIDI file, play,", "or draw notes here"].forEach((line, i) => {
    context.fillText(line, KEYS + (view.width - KEYS) / 2, view.height / 2 + 22 * i);
  });
  context.textAlign = "start";
}

function cursor(context, view, colour) {
  if (!view.focused || view.chosen.size) return;
  const { time, pitch } = view.cursor;
  context.strokeStyle = colour.head;
  context.lineWidth = 2;
  context.strokeRect(view.x(time), view.y(pitch), Math.max(view.step * view.scale, 6), view.row);
}

function keys(context, view, colour) {
  context.save();
  context.beginPath();
  context.rect(0, RULER, KEYS, view.height - RULER);
  context.clip();
  context.fillStyle = colour.card;
  context.fillRect(0, RULER, KEYS, view.height);
  context.font = "11px system-ui, sans-serif";
  for (let pitch = view.lowest; pitch <= view.highest; pitch++) {
    const y = view.y(pitch);
    if (y > view.height || y + view.row < RULER) continue;
    context.fillStyle = isBlack(pitch) ? colour.muted : colour.rule;
    if (isBlack(pitch)) context.fillRect(KEYS - 26, y, 25, view.row - 0.5);
    else context.fillRect(KEYS - 26, y + view.row - 0.5, 25, 0.8);
    if (pitch % 12 === 0 && y > RULER) {
      context.fillStyle = colour.muted;
      context.fillText(pitchName(pitch), 1, y + view.row / 2 + 4);
    }
  }
  context.fillStyle = colour.rule;
  context.fillRect(KEYS - 1, RULER, 1, view.height);
  context.restore();
}

function ruler(context, view, colour) {
  const { bar } = view.piece;
  context.fillStyle = colour.card;
  context.fillRect(0, 0, view.width, RULER);
  context.fillStyle = colour.rule;
  context.fillRect(0, RULER - 1, view.width, 1);
  context.font = "11px system-ui, sans-serif";
  context.fillStyle = colour.muted;
  const every = Math.max(1, 2 ** Math.ceil(Math.log2(34 / (bar * view.scale))));
  const first = Math.max(0, Math.floor(view.time(KEYS) / bar / every)) * every;
  for (let i = first; i * bar <= view.time(view.width); i += every) {
    const x = view.x(i * bar);
    if (x >= KEYS - 1) context.fillText(String(i + 1), x + 3, 14);
  }
}

function playhead(context, view, colour) {
  const x = view.x(view.position);
  if (x < KEYS - 1 || x > view.width) return;
  context.fillStyle = colour.head;
  context.fillRect(x - 1, 0, 2, view.height);
  context.beginPath();
  context.moveTo(x - 6, 0);
  context.lineTo(x + 6, 0);
  context.lineTo(x, 9);
  context.fill();
}
