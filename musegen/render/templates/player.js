// The player of generated pieces. It mixes the sound as musegen/render/audio.py does, so that the
// page contains notes instead of megabytes of audio. A test compares the two. The instrument
// (piano.js or additive.js) has `ready`, a promise, and tone(pitch, velocity, n).
const fadeIn = (n) => Float32Array.from({ length: n }, (_, i) => 0.5 - 0.5 * Math.cos(Math.PI * (i + 0.5) / n));

function synthesise(notes) {
  const { rate, release, peak } = instrument;
  const tail = Math.floor(release * rate), fadeOut = fadeIn(tail).reverse();
  const last = notes.reduce((end, [start, length]) => Math.max(end, start + length), 0);
  const sound = new Float32Array(Math.floor(last / 1000 * rate) + 2 * tail);
  for (const [start, length, pitch, velocity] of notes) {
    const first = Math.floor(start / 1000 * rate);
    const note = tone(pitch, velocity, Math.floor(length / 1000 * rate) + tail);
    const faded = note.length - tail;
    note.forEach((x, i) => { sound[first + i] += i < faded ? x : x * fadeOut[i - faded]; });
  }
  const largest = sound.reduce((most, x) => Math.max(most, Math.abs(x)), 1e-9);
  return sound.map((x) => peak / largest * x);
}

function waveFile(sound) {
  const { rate } = instrument;
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
  const load = async () => { // synthesise a piece when it is first played
    await ready;
    if (!audio.src) audio.src = URL.createObjectURL(waveFile(synthesise(JSON.parse(find(".piece").textContent))));
  };
  const goTo = async (at) => { show(at); await load(); audio.currentTime = at; };

  button.addEventListener("click", async () => {
    if (!audio.paused) return audio.pause();
    for (const other of document.querySelectorAll("audio")) other.pause();
    await load();
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

ready.catch(() => {
  for (const play of document.querySelectorAll(".play")) {
    play.disabled = true;
    play.title = "This browser cannot decode Ogg Vorbis";
  }
});
