"use strict";
// The player. It synthesises the sound as musegen/render/audio.py does, so that the page contains
// notes instead of megabytes of audio. A test compares the two.
const { rate, attack, release, ring, partials } = JSON.parse(
  document.getElementById("synthesiser").textContent);

const fadeIn = (n) => Float32Array.from({ length: n }, (_, i) => 0.5 - 0.5 * Math.cos(Math.PI * (i + 0.5) / n));

// The sound of a struck string, n samples. Each partial follows the recurrence
// x[i+1] = 2 r cos(w) x[i] - r^2 x[i-1].
function string(pitch, n) {
  const f0 = 440 * 2 ** ((pitch - 69) / 12);
  const sound = new Float64Array(n);
  for (let k = 1; k <= partials; k++) {
    if (k * f0 >= rate / 2 * 0.9) continue;
    const r = Math.exp(-(0.6 + 0.4 * k) * (0.5 + f0 / 600) / rate);
    const w = 2 * Math.PI * k * f0 / rate;
    const a = 2 * r * Math.cos(w), b = r * r;
    let previous = -Math.sin(w) / r / k, current = 0;
    for (let i = 0; i < n; i++) {
      sound[i] += current;
      [previous, current] = [current, a * current - b * previous];
    }
  }
  fadeIn(Math.floor(attack * rate)).forEach((gain, i) => { sound[i] *= gain; });
  let peak = 1e-9;
  for (const x of sound) peak = Math.max(peak, Math.abs(x));
  return sound.map((x) => x / peak);
}

function synthesise(notes) {
  const tail = Math.floor(release * rate);
  const fadeOut = fadeIn(tail).reverse();
  const samples = (length) => Math.min(Math.floor(length / 1000 * rate), Math.floor(ring * rate) - tail);
  // The samples needed per pitch: at least one second, which contains the peak.
  const longest = new Map();
  for (const [, length, pitch] of notes) {
    longest.set(pitch, Math.max(longest.get(pitch) ?? rate, samples(length) + tail));
  }
  const strings = new Map([...longest].map(([pitch, n]) => [pitch, string(pitch, n)]));
  const last = notes.reduce((end, [start, length]) => Math.max(end, start + length), 0);
  const sound = new Float32Array(Math.floor(last / 1000 * rate) + 2 * tail);
  for (const [start, length, pitch, velocity] of notes) {
    const tone = strings.get(pitch), gain = (velocity / 127) ** 2;
    const first = Math.floor(start / 1000 * rate), n = samples(length);
    for (let i = 0; i < n; i++) sound[first + i] += gain * tone[i];
    for (let i = 0; i < tail; i++) sound[first + n + i] += gain * tone[n + i] * fadeOut[i];
  }
  let peak = 1e-9;
  for (const x of sound) peak = Math.max(peak, Math.abs(x));
  return sound.map((x) => 0.9 / peak * x);
}

function waveFile(sound) {
  const view = new DataView(new ArrayBuffer(44 + 2 * sound.length));
  const text = (at, s) => [...s].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
  text(0, "RIFF"); view.setUint32(4, 36 + 2 * sound.length, true); text(8, "WAVEfmt ");
  view.setUint32(16, 16, true); view.setUint16(20, 1, true); view.setUint16(22, 1, true);
  view.setUint32(24, rate, true); view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true); view.setUint16(34, 16, true);
  text(36, "data"); view.setUint32(40, 2 * sound.length, true);
  sound.forEach((x, i) => view.setInt16(44 + 2 * i, Math.trunc(x * 32767), true));
  return new Blob([view], { type: "audio/wav" });
}

const clock = (s) => `${Math.floor(s / 60)}:${String(Math.floor(s % 60)).padStart(2, "0")}`;

for (const player of document.querySelectorAll(".player")) {
  const find = (selector) => player.querySelector(selector);
  const [button, seek, scroll, wide, playhead] =
    [".play", ".seek", ".scroll", ".wide", ".playhead"].map(find);
  const name = find(".name").textContent, seconds = Number(seek.max);
  const audio = document.createElement("audio");
  player.append(audio);

  const show = (at) => {
    playhead.style.left = `${100 * Math.min(at / seconds, 1)}%`;
    seek.value = at;
    seek.setAttribute("aria-valuetext", `${clock(at)} of ${clock(seconds)}`);
    find(".now").textContent = clock(Math.min(at, seconds));
  };
  const follow = () => {
    if (audio.paused) return;
    show(audio.currentTime);
    const x = playhead.offsetLeft;
    if (x < scroll.scrollLeft || x > scroll.scrollLeft + 0.85 * scroll.clientWidth) {
      scroll.scrollLeft = x - 0.1 * scroll.clientWidth;
    }
    requestAnimationFrame(follow);
  };
  const load = () => { // synthesise a piece when it is first played
    if (!audio.src) audio.src = URL.createObjectURL(waveFile(synthesise(JSON.parse(find(".piece").textContent))));
  };
  const goTo = (at) => { load(); audio.currentTime = at; show(at); };

  button.addEventListener("click", () => {
    if (!audio.paused) return audio.pause();
    for (const other of document.querySelectorAll("audio")) other.pause();
    load();
    audio.play();
  });
  const updateButton = () => {
    player.classList.toggle("playing", !audio.paused);
    button.setAttribute("aria-label", `${audio.paused ? "Play" : "Pause"} ${name}`);
    follow();
  };
  for (const event of ["play", "pause", "ended"]) audio.addEventListener(event, updateButton);
  seek.addEventListener("input", () => goTo(Number(seek.value)));
  wide.addEventListener("click", (event) => {
    if (!button.disabled) goTo(seconds * (event.clientX - wide.getBoundingClientRect().left) / wide.clientWidth);
  });
}

for (const button of document.querySelectorAll(".copy")) {
  button.addEventListener("click", () => {
    const code = button.parentElement.querySelector("code");
    getSelection().selectAllChildren(code); // selected at least, if a page from disk may not copy
    navigator.clipboard?.writeText(code.textContent).then(
      () => { button.textContent = "Copied"; }, () => { button.textContent = "Selected"; });
  });
}
