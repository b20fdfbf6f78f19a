// The piece that is being edited: its notes, what is selected, and its history.
import { store, stored } from "./store.js";

const MAX_HISTORY = 200;
export const toRow = (note) => [note.start, note.end, note.pitch, note.velocity];
export const toNote = ([start, end, pitch, velocity]) => ({ start, end, pitch, velocity });
export const byTime = (a, b) => a.start - b.start || a.pitch - b.pitch;
export const lastEnd = (notes) => notes.reduce((end, note) => Math.max(end, note.end), 0);

/** Notes are never changed in place: a change is a new array with new notes. */
export class Piece extends EventTarget {
  notes = stored("notes", []).map(toNote);
  tempo = stored("tempo", 120);
  beats = stored("beats", 4);
  region = stored("region", null); // { start, end, low, high }, pitches inclusive
  selected = new Set();
  #past = [];
  #future = [];

  get beat() {
    return 60 / this.tempo;
  }
  get bar() {
    return this.beat * this.beats;
  }
  get seconds() {
    return lastEnd(this.notes);
  }
  get canUndo() {
    return this.#past.length > 0;
  }
  get canRedo() {
    return this.#future.length > 0;
  }
  get rows() {
    return this.notes.map(toRow);
  }

  /** Replace the notes, as one step of the history. */
  change(notes, { selected = [], region = this.region, tempo = this.tempo } = {}) {
    this.#past = [...this.#past, this.#state()].slice(-MAX_HISTORY);
    this.#future = [];
    this.#set({ notes: [...notes].sort(byTime), tempo, region });
    this.selected = new Set(selected);
    this.#tell("change");
  }

  undo() {
    this.#go(this.#past, this.#future);
  }
  redo() {
    this.#go(this.#future, this.#past);
  }

  #go(from, to) {
    if (!from.length) return;
    to.push(this.#state());
    this.#set(from.pop());
    this.selected = new Set();
    this.#tell("change");
  }

  #state() {
    return { notes: this.notes, tempo: this.tempo, region: this.region };
  }

  #set({ notes, tempo, region }) {
    Object.assign(this, { notes, tempo, region });
  }

  #tell(name) {
    store("notes", this.rows);
    store("tempo", this.tempo);
    store("beats", this.beats);
    store("region", this.region);
    this.dispatchEvent(new Event(name));
  }

  select(notes) {
    this.selected = new Set(notes);
    this.#tell("view");
  }

  setRegion(region) {
    this.region = region;
    this.#tell("view");
  }

  /** Another tempo: the notes keep their beats. */
  setTempo(tempo) {
    const factor = this.tempo / tempo;
    const scaled = (note) => ({ ...note, start: note.start * factor, end: note.end * factor });
    const region = this.region && {
      ...this.region,
      start: this.region.start * factor,
      end: this.region.end * factor,
    };
    this.change(this.notes.map(scaled), { tempo, region });
  }

  setBeats(beats) {
    this.beats = beats;
    this.#tell("view");
  }

  // --- Changes of the selected notes ---------------------------------------------------------

  #replaceSelected(change) {
    const changed = [...this.selected].map(change);
    const others = this.notes.filter((note) => !this.selected.has(note));
    this.change([...others, ...changed], { selected: changed });
  }

  move(seconds, semitones) {
    const first = Math.min(...[...this.selected].map((note) => note.start));
    const by = Math.max(seconds, -first);
    this.#replaceSelected((note) => ({
      ...note,
      start: note.start + by,
      end: note.end + by,
      pitch: Math.min(127, Math.max(0, note.pitch + semitones)),
    }));
  }

  stretch(seconds, shortest) {
    this.#replaceSelected((note) => ({
      ...note,
      end: Math.max(note.start + shortest, note.end + seconds),
    }));
  }

  remove(notes = this.selected) {
    const gone = new Set(notes);
    if (gone.size) this.change(this.notes.filter((note) => !gone.has(note)));
  }
}
