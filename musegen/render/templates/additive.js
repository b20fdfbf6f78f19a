// The tones of additive synthesis, as musegen/render/additive.py makes them.
const strings = new Map();
const ready = Promise.resolve();

function tone(pitch, velocity, n) {
  if (!strings.has(pitch)) strings.set(pitch, string(pitch));
  return strings.get(pitch).subarray(0, n).map((x) => (velocity / 127) ** 2 * x);
}

// The sound of a struck string. Each partial follows the recurrence
// x[i+1] = 2 r cos(w) x[i] - r^2 x[i-1].
function string(pitch) {
  const { rate, attack, ring, partials } = instrument;
  const f0 = 440 * 2 ** ((pitch - 69) / 12);
  const sound = new Float64Array(Math.floor(ring * rate));
  for (let k = 1; k <= partials; k++) {
    if (k * f0 >= rate / 2 * 0.9) continue;
    const r = Math.exp(-(0.6 + 0.4 * k) * (0.5 + f0 / 600) / rate);
    const w = 2 * Math.PI * k * f0 / rate;
    const a = 2 * r * Math.cos(w), b = r * r;
    let previous = -Math.sin(w) / r / k, current = 0;
    for (let i = 0; i < sound.length; i++) {
      sound[i] += current;
      [previous, current] = [current, a * current - b * previous];
    }
  }
  fadeIn(Math.floor(attack * rate)).forEach((gain, i) => { sound[i] *= gain; });
  const peak = sound.reduce((most, x) => Math.max(most, Math.abs(x)), 1e-9);
  return Float32Array.from(sound, (x) => x / peak);
}
