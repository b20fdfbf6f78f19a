// The tones of the recorded piano, as musegen/render/piano/__init__.py plays them.
const strings = new Map();
let recorded; // [MIDI pitch, samples] of each recorded note

const ready = (async () => {
  const bytes = Uint8Array.from(atob(instrument.ogg), (c) => c.charCodeAt(0));
  const context = new OfflineAudioContext(1, 1, instrument.rate);
  const sound = (await context.decodeAudioData(bytes.buffer)).getChannelData(0);
  recorded = instrument.table.map(([pitch, first, n]) => [pitch, sound.subarray(first, first + n)]);
})();

function tone(pitch, velocity, n) {
  if (!strings.has(pitch)) strings.set(pitch, string(pitch));
  const { bright, dark } = strings.get(pitch), b = velocity / 127;
  return bright.subarray(0, n).map((x, i) => b * b * (b * x + (1 - b) * dark[i]));
}

// The bright and the dark sound of a key: the nearest sample, and low-passed.
function string(pitch) {
  const [nearest, sound] = recorded.reduce((best, other) =>
    Math.abs(other[0] - pitch) < Math.abs(best[0] - pitch) ? other : best);
  const bright = faster(sound, 2 ** ((pitch - nearest) / 12));
  fadeIn(Math.floor(instrument.attack * instrument.rate)).forEach((gain, i) => { bright[i] *= gain; });
  const cutoff = instrument.dark_hz + instrument.dark_partial * 440 * 2 ** ((pitch - 69) / 12);
  const share = 1 - Math.exp(-2 * Math.PI * cutoff / instrument.rate);
  let level = 0;
  return { bright, dark: bright.map((x) => { level += share * (x - level); return level; }) };
}

// The sound at another speed, by Catmull-Rom splines through its samples.
function faster(sound, speed) {
  if (speed === 1) return sound.slice();
  return Float32Array.from({ length: Math.floor((sound.length - 3) / speed) }, (_, k) => {
    const place = 1 + k * speed, i = Math.floor(place), t = place - i;
    const [a, b, c, d] = [sound[i - 1], sound[i], sound[i + 1], sound[i + 2]];
    return b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)));
  });
}
