// What survives a reload, in the browser's localStorage.
const NAME = "musegen.studio";
const state = read();
let timer = 0;

function read() {
  try {
    return JSON.parse(localStorage.getItem(NAME)) ?? {};
  } catch {
    return {};
  }
}

function write() {
  clearTimeout(timer);
  timer = 0;
  for (;;) {
    try {
      return localStorage.setItem(NAME, JSON.stringify(state));
    } catch {
      // full: the oldest takes are given up
      if (!state.takes?.length) return;
      state.takes = state.takes.slice(0, -1);
    }
  }
}

export const stored = (key, fallback) => state[key] ?? fallback;

export function store(key, value) {
  state[key] = value;
  if (!timer) timer = setTimeout(write, 250);
}

addEventListener("pagehide", () => {
  if (timer) write();
});
