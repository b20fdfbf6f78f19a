// Plays notes with the piano of the reports, through WebAudio. Notes are scheduled a moment ahead,
// so that a piece can be played while it is still being written or edited.
import { fadeIn, instrument, ready, tone } from "./piano.js";

const AHEAD = 0.25,
  AHEAD_HIDDEN = 1.5, // a browser calls the timers of hidden pages once a second
  TICK = 50,
  LEAD = 0.06,
  LEVEL = 0.45;
const tail = Math.floor(instrument.release * instrument.rate);
const fadeOut = fadeIn(tail).reverse();
const buffers = new Map();
let context, output;

async function audio() {
  if (!context) {
    context = new AudioContext();
    const limiter = context.createDynamicsCompressor();
    output = context.createGain();
    output.gain.value = LEVEL;
    output.connect(limiter).connect(context.destination);
  }
  if (context.state === "suspended") await context.resume();
  await ready;
  return context;
}

function buffer(pitch, velocity, seconds) {
  const n = Math.floor(seconds * instrument.rate) + tail,
    key = `${pitch} ${velocity} ${n}`;
  if (!buffers.has(key)) {
    if (buffers.size > 1000) buffers.clear();
    const sound = tone(pitch, velocity, n),
      faded = sound.length - tail;
    fadeOut.forEach((gain, i) => {
      sound[faded + i] *= gain;
    });
    const made = context.createBuffer(1, sound.length, instrument.rate);
    made.copyToChannel(sound, 0);
    buffers.set(key, made);
  }
  return buffers.get(key);
}

function start(note, at, playing) {
  const source = context.createBufferSource();
  source.buffer = buffer(note.pitch, note.velocity, note.end - note.start);
  source.connect(output);
  source.start(Math.max(at, context.currentTime));
  playing.add(source);
  source.addEventListener("ended", () => playing.delete(source));
  return source;
}

/** Sound one note now; returns a function that releases it. */
export async function press(pitch, velocity = 80, seconds = 3) {
  await audio();
  const gain = context.createGain();
  const source = context.createBufferSource();
  source.buffer = buffer(pitch, velocity, seconds);
  source.connect(gain).connect(output);
  source.start();
  return () => {
    gain.gain.setTargetAtTime(0, context.currentTime, instrument.release / 4);
    source.stop(context.currentTime + instrument.release * 2);
  };
}

class Player extends EventTarget {
  playing = false;
  owner = null; // who is being played: the editor or a take
  notes = () => [];
  until = () => 0; // where the piece ends
  written = () => Infinity; // up to where it is written
  loop = () => null; // [start, end] or null
  #sources = new Set();
  #anchors = [];
  #cursor = 0; // what is scheduled: the piece up to #cursor, which sounds at #at
  #at = 0;
  #timer = 0;
  #turn = 0; // counts what was played and paused

  get position() {
    if (!this.playing) return this.#cursor;
    const now = context.currentTime;
    while (this.#anchors.length > 1 && this.#anchors[1].at <= now) this.#anchors.shift();
    const { at, time } = this.#anchors[0];
    return Math.max(
      0,
      Math.min(time + Math.max(0, now - at), this.#anchors.length > 1 ? Infinity : this.#cursor),
    );
  }

  async play(owner, from, source) {
    this.pause();
    Object.assign(this, { written: () => Infinity, loop: () => null }, source, { owner });
    const turn = this.#turn;
    await audio();
    if (turn !== this.#turn) return; // something else was played, or this was paused
    this.playing = true;
    this.#restart(from);
    this.#timer = setInterval(() => this.#schedule(), TICK);
    this.#schedule();
    this.dispatchEvent(new Event("change"));
  }

  pause() {
    this.#turn++;
    if (!this.playing) return;
    this.#cursor = this.position;
    this.playing = false;
    clearInterval(this.#timer);
    this.#silence();
    this.dispatchEvent(new Event("change"));
  }

  seek(time) {
    if (!this.playing) {
      this.#cursor = time;
      return;
    }
    this.#silence();
    this.#restart(time);
    this.#schedule();
  }

  #restart(time) {
    this.#cursor = time;
    this.#at = context.currentTime + LEAD;
    this.#anchors = [{ at: this.#at, time }];
  }

  #silence() {
    for (const source of this.#sources) source.stop();
    this.#sources.clear();
  }

  #schedule() {
    const now = context.currentTime,
      loop = this.loop();
    if (!loop && this.written() === Infinity && this.#cursor >= this.until()) {
      if (now > this.#at + instrument.release) this.#end();
      return;
    }
    if (this.#at < now) {
      // the next notes were not written yet
      this.#at = now + LEAD;
      this.#anchors = [{ at: this.#at, time: this.#cursor }];
    }
    const ahead = document.hidden ? AHEAD_HIDDEN : AHEAD;
    for (let turns = 0; this.#at < now + ahead && turns < 20; turns++) {
      const end = loop ? Math.max(loop[1], loop[0] + 0.1) : this.until();
      this.#play(Math.min(this.#cursor + now + ahead - this.#at, end, this.written()));
      if (!loop || this.#cursor < end) break;
      this.#cursor = loop[0];
      this.#anchors.push({ at: this.#at, time: loop[0] });
    }
  }

  /** Schedule the notes from #cursor to `stop`. */
  #play(stop) {
    if (stop <= this.#cursor) return;
    for (const note of this.notes()) {
      if (note.start >= this.#cursor && note.start < stop)
        start(note, this.#at + note.start - this.#cursor, this.#sources);
    }
    this.#at += stop - this.#cursor;
    this.#cursor = stop;
  }

  #end() {
    this.pause();
    this.#cursor = 0;
    this.dispatchEvent(new Event("change"));
  }
}

export const player = new Player();
