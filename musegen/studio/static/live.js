// Notes that are played on the computer's keys or on a MIDI keyboard.
import { press } from "./sound.js";

const KEYS = [
  "KeyA",
  "KeyW",
  "KeyS",
  "KeyE",
  "KeyD",
  "KeyF",
  "KeyT",
  "KeyG",
  "KeyY",
  "KeyH",
  "KeyU",
  "KeyJ",
  "KeyK",
  "KeyO",
  "KeyL",
  "KeyP",
  "Semicolon",
];

/** Calls `played(note)` for each note, with its start and end in seconds of performance.now(). */
export class Live {
  keys = false; // whether the computer's keys play
  midi = null;
  octave = 0;
  #held = new Map();

  constructor(played) {
    this.played = played;
    addEventListener("keydown", (event) => this.#key(event, true));
    addEventListener("keyup", (event) => this.#key(event, false));
    addEventListener("blur", () => [...this.#held.keys()].forEach((pitch) => this.off(pitch)));
  }

  on(pitch, velocity) {
    if (this.#held.has(pitch) || pitch < 0 || pitch > 127) return;
    this.#held.set(pitch, { start: performance.now() / 1000, velocity, release: press(pitch, velocity) });
  }

  off(pitch) {
    const held = this.#held.get(pitch);
    if (!held) return;
    this.#held.delete(pitch);
    held.release.then((release) => release());
    const end = Math.max(performance.now() / 1000, held.start + 0.04);
    this.played({ start: held.start, end, pitch, velocity: held.velocity });
  }

  #key(event, down) {
    const typing = event.target.matches?.(
      "input:not([type=checkbox],[type=radio],[type=range]), select, textarea",
    );
    if (!this.keys || event.ctrlKey || event.metaKey || event.altKey || typing) return;
    if (down && !event.repeat && event.code === "KeyZ") this.octave = Math.max(-3, this.octave - 1);
    if (down && !event.repeat && event.code === "KeyX") this.octave = Math.min(3, this.octave + 1);
    const place = KEYS.indexOf(event.code);
    if (place < 0) return;
    event.preventDefault();
    event.stopPropagation();
    if (down && !event.repeat) this.on(60 + place + 12 * this.octave, 80);
    if (!down)
      [...this.#held.keys()]
        .filter((pitch) => (pitch - 60 - place) % 12 === 0)
        .forEach((pitch) => this.off(pitch));
  }

  /** Listen to all MIDI keyboards; returns how many there are. */
  async connect() {
    if (!navigator.requestMIDIAccess)
      throw new Error("this browser has no Web MIDI; Chrome, Edge and Firefox have it");
    this.midi = await navigator.requestMIDIAccess().catch(() => {
      throw new Error("the browser does not allow MIDI");
    });
    const listen = () =>
      this.midi.inputs.forEach((keyboard) => {
        keyboard.onmidimessage = ({ data }) => this.#message(data);
      });
    this.midi.onstatechange = listen;
    listen();
    return this.midi.inputs.size;
  }

  disconnect() {
    this.midi?.inputs.forEach((keyboard) => {
      keyboard.onmidimessage = null;
    });
    this.midi = null;
  }

  #message([status, pitch, velocity]) {
    if ((status & 0xf0) === 0x90 && velocity) this.on(pitch, velocity);
    else if ((status & 0xe0) === 0x80) this.off(pitch);
  }
}
