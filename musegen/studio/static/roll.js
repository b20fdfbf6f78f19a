// The piano-roll that one edits with the mouse, a finger or the keyboard.
import { onColours, pitchName, say, sharp } from "./dom.js";
import { KEYS, paintRoll, RULER } from "./paint.js";
import { press } from "./sound.js";
import { store, stored } from "./store.js";

const EDGE = 7,
  MIN_SCALE = 4,
  MAX_SCALE = 600,
  MIN_ROW = 5,
  MAX_ROW = 22,
  SPARE = 8;
const SHORTEST = 0.03; // seconds of a note

export class Roll {
  tool = stored("tool", "draw");
  scale = stored("scale", 60); // pixels per second
  row = stored("row", 10); // pixels per semitone
  grid = stored("grid", 0.25); // beats
  cursor = { time: 0, pitch: 60 };
  position = 0; // of the playhead
  surprise = null;
  writing = null; // notes that a model is writing now
  box = null; // the region that is being drawn
  lowest = 21;
  highest = 108;
  width = 0;
  height = 0;
  #drag = null;
  #preview = null; // { notes, chosen } while notes are dragged
  #wanted = 0;
  #length = 0; // seconds that there is room for

  constructor(canvas, scroll, space, piece, { seek, changed }) {
    Object.assign(this, { canvas, scroll, space, piece, seek, changed });
    for (const name of [
      "pointerdown",
      "pointermove",
      "pointerup",
      "pointercancel",
      "dblclick",
      "contextmenu",
    ]) {
      canvas.addEventListener(name, (event) => this[`_${name}`](event));
    }
    for (const name of ["focus", "blur"]) canvas.addEventListener(name, () => this.draw());
    scroll.addEventListener("scroll", () => this.draw());
    new ResizeObserver(() => this.layout()).observe(scroll);
    piece.addEventListener("change", () => this.layout());
    piece.addEventListener("view", () => this.draw());
    onColours(() => this.draw());
    this.setTool(this.tool);
    this.layout();
    this.showPitches();
  }

  // --- Where things are ----------------------------------------------------------------------

  get shown() {
    return this.#preview?.notes ?? this.writing ?? this.piece.notes;
  }
  get chosen() {
    return this.#preview?.chosen ?? (this.writing ? new Set() : this.piece.selected);
  }
  get focused() {
    return document.activeElement === this.canvas;
  }
  get step() {
    return this.grid ? this.grid * this.piece.beat : 0.05;
  }
  x(time) {
    return KEYS + time * this.scale - this.scroll.scrollLeft;
  }
  y(pitch) {
    return RULER + (this.highest - pitch) * this.row - this.scroll.scrollTop;
  }
  time(x) {
    return (x - KEYS + this.scroll.scrollLeft) / this.scale;
  }
  pitch(y) {
    return Math.floor(this.highest - (y - RULER + this.scroll.scrollTop) / this.row + 1);
  }
  key(note) {
    return `${note.pitch} ${note.start.toFixed(3)}`;
  }
  snap(time, round = Math.round) {
    return this.grid ? round(time / this.step + (round === Math.round ? 0 : 1e-9)) * this.step : time;
  }

  layout() {
    const { clientWidth, clientHeight } = this.scroll;
    const pitches = this.shown.map((note) => note.pitch);
    this.lowest = Math.min(21, ...pitches);
    this.highest = Math.max(108, ...pitches);
    const end = this.shown.reduce((last, note) => Math.max(last, note.end), 0);
    this.#length = Math.max(end, this.cursor.time, this.position) + SPARE;
    this.space.style.width = `${Math.max(clientWidth, KEYS + this.#length * this.scale)}px`;
    this.space.style.height = `${Math.max(clientHeight, RULER + (this.highest - this.lowest + 1) * this.row)}px`;
    this.canvas.style.width = `${clientWidth}px`;
    this.canvas.style.height = `${clientHeight}px`;
    Object.assign(this, { width: clientWidth, height: clientHeight });
    this.draw();
  }

  draw() {
    if (this.#wanted) return;
    this.#wanted = requestAnimationFrame(() => {
      this.#wanted = 0;
      if (this.width) paintRoll(sharp(this.canvas, this.width, this.height), this);
    });
  }

  // --- What is in view -----------------------------------------------------------------------

  setTool(tool) {
    this.tool = tool;
    store("tool", tool);
    this.canvas.style.touchAction = tool === "view" ? "pan-x pan-y" : "none";
    this.canvas.style.cursor = { draw: "crosshair", select: "cell", view: "grab" }[tool];
  }

  setGrid(grid) {
    this.grid = grid;
    store("grid", grid);
    this.draw();
  }

  zoom(factor, at = KEYS + (this.width - KEYS) / 2) {
    const time = this.time(at);
    this.#setScale(this.scale * factor);
    this.scroll.scrollLeft = time * this.scale - (at - KEYS);
    this.draw();
  }

  #setScale(scale) {
    this.scale = Math.min(MAX_SCALE, Math.max(MIN_SCALE, scale));
    store("scale", this.scale);
    this.layout();
  }

  fit() {
    const end = this.shown.reduce((last, note) => Math.max(last, note.end), 4 * this.piece.bar);
    this.#setScale(Math.max(MIN_SCALE, (this.width - KEYS) / (end * 1.03)));
    this.scroll.scrollLeft = 0;
    this.showPitches();
  }

  /** Make the rows as high as fits the notes, and scroll to them. */
  showPitches() {
    const pitches = this.shown.map((note) => note.pitch);
    const low = Math.min(55, ...pitches) - 3,
      high = Math.max(79, ...pitches) + 3;
    this.row = Math.min(MAX_ROW, Math.max(MIN_ROW, Math.floor((this.height - RULER) / (high - low + 1))));
    store("row", this.row);
    this.layout();
    this.scroll.scrollTop = (this.highest - (low + high) / 2) * this.row - (this.height - RULER) / 2;
  }

  /** Keep the playhead in view while the piece is played. */
  follow(position) {
    this.position = position;
    const x = this.x(position);
    if (position + 1 > this.#length) this.layout();
    if (!this.#drag && (x > this.width - 20 || x < KEYS))
      this.scroll.scrollLeft = Math.max(0, position * this.scale - 20);
    this.draw();
  }

  showPosition(position) {
    this.position = position;
    this.draw();
  }

  write(notes) {
    this.writing = notes;
    this.layout();
  }

  // --- Mouse and fingers ---------------------------------------------------------------------

  #noteAt(x, y) {
    const time = this.time(x),
      pitch = this.pitch(y),
      slack = 2 / this.scale;
    return this.piece.notes.findLast(
      (n) => n.pitch === pitch && n.start - slack <= time && time <= n.end + slack,
    );
  }

  #place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  _pointerdown(event) {
    if (event.button || (this.tool === "view" && event.pointerType !== "mouse")) return;
    const [x, y] = this.#place(event),
      note = this.#noteAt(x, y);
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    const start = { x, y, note, time: this.time(x), pitch: this.pitch(y), far: false };
    if (y < RULER) this.#drag = { ...start, kind: "ruler" };
    else if (x < KEYS) {
      press(this.pitch(y)).then((release) => setTimeout(release, 400));
      return;
    } else if (this.tool === "view")
      this.#drag = { ...start, kind: "view", left: this.scroll.scrollLeft, top: this.scroll.scrollTop };
    else if (this.writing) return;
    else if (note) this.#drag = { ...start, kind: this.#choose(note, x, event.shiftKey) };
    else if (this.tool === "draw") this.#drag = { ...start, kind: "new" };
    else this.#drag = { ...start, kind: "box" };
    if (this.#drag.kind === "new") {
      this.#dragNew(this.time(x));
      press(start.pitch).then((release) => setTimeout(release, 250));
    }
  }

  #choose(note, x, add) {
    if (!this.piece.selected.has(note)) this.piece.select(add ? [...this.piece.selected, note] : [note]);
    this.#tellNote(note);
    const width = (note.end - note.start) * this.scale;
    return x > this.x(note.end) - Math.min(EDGE, width / 3) ? "stretch" : "move";
  }

  _pointermove(event) {
    const [x, y] = this.#place(event),
      drag = this.#drag;
    if (!drag) {
      if (this.tool === "view") return;
      const note = this.#noteAt(x, y);
      const edge =
        note && x > this.x(note.end) - Math.min(EDGE, ((note.end - note.start) * this.scale) / 3);
      this.canvas.style.cursor = edge
        ? "ew-resize"
        : note
          ? "move"
          : this.tool === "draw"
            ? "crosshair"
            : "cell";
      return;
    }
    drag.far ||= Math.hypot(x - drag.x, y - drag.y) > 3;
    if (!drag.far) return;
    if (drag.kind === "view") this.scroll.scrollTo(drag.left - (x - drag.x), drag.top - (y - drag.y));
    if (drag.kind === "new") this.#dragNew(this.time(x));
    if (drag.kind === "move") this.#dragMove(this.time(x) - drag.time, this.pitch(y) - drag.pitch);
    if (drag.kind === "stretch") this.#dragStretch(this.time(x) - drag.time);
    if (drag.kind === "box") this.box = this.#boxTo(this.time(x), this.pitch(y));
    if (drag.kind === "ruler") this.box = this.#barsTo(this.time(x));
    this.draw();
  }

  #dragNew(time) {
    const { time: from, pitch } = this.#drag;
    const start = Math.max(0, this.snap(from, Math.floor));
    const end = Math.max(start + Math.max(this.step, SHORTEST), this.snap(time, Math.ceil));
    const note = { start, end, pitch, velocity: 80 };
    this.#preview = { notes: [...this.piece.notes, note], chosen: new Set([note]) };
    this.draw();
  }

  #dragMove(seconds, semitones) {
    const { note } = this.#drag;
    const by = Math.max(
      this.snap(note.start + seconds) - note.start,
      -Math.min(...[...this.piece.selected].map((n) => n.start)),
    );
    this.#show((n) => ({
      ...n,
      start: n.start + by,
      end: n.end + by,
      pitch: Math.min(127, Math.max(0, n.pitch + semitones)),
    }));
  }

  #dragStretch(seconds) {
    const { note } = this.#drag;
    const by = this.snap(note.end + seconds) - note.end;
    this.#show((n) => ({
      ...n,
      end: Math.max(n.start + (this.grid ? Math.min(this.step, n.end - n.start) : SHORTEST), n.end + by),
    }));
  }

  #show(change) {
    const chosen = [...this.piece.selected].map(change);
    const others = this.piece.notes.filter((note) => !this.piece.selected.has(note));
    this.#preview = { notes: [...others, ...chosen], chosen: new Set(chosen) };
  }

  #boxTo(time, pitch) {
    const drag = this.#drag,
      clamp = (p) => Math.min(127, Math.max(0, p));
    return {
      start: Math.max(0, this.snap(Math.min(drag.time, time), Math.floor)),
      end: this.snap(Math.max(drag.time, time), Math.ceil),
      low: clamp(Math.min(drag.pitch, pitch)),
      high: clamp(Math.max(drag.pitch, pitch)),
    };
  }

  #barsTo(time) {
    const { bar } = this.piece,
      [from, to] = [this.#drag.time, time].sort((a, b) => a - b);
    return {
      start: Math.max(0, Math.floor(from / bar)) * bar,
      end: Math.ceil(to / bar) * bar,
      low: 0,
      high: 127,
    };
  }

  _pointerup() {
    const drag = this.#drag,
      preview = this.#preview,
      box = this.box;
    this.#drag = this.#preview = this.box = null;
    if (!drag) return;
    if (preview) this.piece.change(preview.notes, { selected: preview.chosen });
    else if (box && box.end > box.start) this.chooseRegion(box);
    else if (drag.kind === "box") {
      this.piece.selected = new Set();
      this.chooseRegion(null);
    } else if (drag.kind === "ruler") this.seek(Math.max(0, drag.time));
    if (!drag.far && drag.kind === "move" && drag.note) this.#play(drag.note);
    this.draw();
  }

  _pointercancel() {
    this.#drag = this.#preview = this.box = null;
    this.draw();
  }

  _dblclick(event) {
    this.#removeAt(event);
  }

  _contextmenu(event) {
    event.preventDefault();
    this.#removeAt(event);
  }

  #removeAt(event) {
    const note = this.#noteAt(...this.#place(event));
    if (note && !this.writing) this.piece.remove([note]);
  }

  chooseRegion(region) {
    this.piece.region = region;
    const inside = (n) =>
      n.start < region.end && n.end > region.start && n.pitch >= region.low && n.pitch <= region.high;
    this.piece.select(region ? this.piece.notes.filter(inside) : []);
  }

  #play(note) {
    press(note.pitch, note.velocity, note.end - note.start);
  }

  #tellNote(note) {
    say(`${pitchName(note.pitch)}, ${note.start.toFixed(2)} to ${note.end.toFixed(2)} seconds`);
  }

  // --- Keyboard ------------------------------------------------------------------------------

  /** Whether the key was used. */
  keydown(event) {
    if (this.writing) return false;
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    if (arrows[event.key]) this.#arrow(...arrows[event.key], event.shiftKey);
    else if (event.key === "Enter") this.#drawAtCursor();
    else if (event.key === "n" || event.key === "p") this.#next(event.key === "n" ? 1 : -1);
    else if (event.key === "Home" || event.key === "End")
      this.#moveCursor(event.key === "Home" ? 0 : this.snap(this.piece.seconds));
    else if (event.key === "[" || event.key === "]") this.#regionEdge(event.key === "[");
    else if (event.key === "Escape") {
      this.piece.selected = new Set();
      this.chooseRegion(null);
    } else return false;
    return true;
  }

  #arrow(right, up, shift) {
    const { piece } = this,
      semitones = shift ? 12 * up : up;
    if (!piece.selected.size) {
      const pitch = Math.min(this.highest, Math.max(this.lowest, this.cursor.pitch + semitones));
      this.#moveCursor(Math.max(0, this.snap(this.cursor.time) + right * this.step), pitch);
    } else if (shift && right) piece.stretch(right * this.step, Math.min(this.step, 0.05));
    else piece.move(right * this.step, semitones);
    const [note] = piece.selected;
    if (note) {
      this.#tellNote(note);
      this.#reveal(note.start, note.pitch);
      if (up) this.#play(note);
    }
  }

  #moveCursor(time, pitch = this.cursor.pitch) {
    this.cursor = { time, pitch };
    say(`${pitchName(pitch)}, ${time.toFixed(2)} seconds`);
    this.layout();
    this.#reveal(time, pitch);
  }

  #reveal(time, pitch) {
    const x = this.x(time),
      y = this.y(pitch);
    if (x < KEYS || x > this.width - 40) this.scroll.scrollLeft += x - this.width / 2;
    if (y < RULER || y > this.height - 2 * this.row) this.scroll.scrollTop += y - this.height / 2;
  }

  #drawAtCursor() {
    const { time, pitch } = this.cursor;
    const note = { start: time, end: time + this.step, pitch, velocity: 80 };
    this.piece.change([...this.piece.notes, note]);
    this.#play(note);
    this.#moveCursor(time + this.step);
  }

  #next(by) {
    const { notes, selected } = this.piece;
    if (!notes.length) return;
    const at = notes.findIndex((note) => selected.has(note));
    const note = notes[at < 0 ? (by > 0 ? 0 : notes.length - 1) : (at + by + notes.length) % notes.length];
    this.piece.select([note]);
    this.cursor = { time: note.start, pitch: note.pitch };
    this.#tellNote(note);
    this.#reveal(note.start, note.pitch);
    this.#play(note);
  }

  #regionEdge(isStart) {
    const { time } = this.cursor,
      old = this.piece.region ?? {
        start: 0,
        end: Math.max(this.piece.seconds, time + this.step),
        low: 0,
        high: 127,
      };
    const region = isStart ? { ...old, start: time } : { ...old, end: time + this.step };
    if (region.end > region.start) this.piece.setRegion(region); // selected notes would move with the arrows
    say(`region ${region.start.toFixed(2)} to ${region.end.toFixed(2)} seconds`);
  }
}
