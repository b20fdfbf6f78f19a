// What models have written: a shelf of takes, and two of them side by side.
import { clock, find, make, onColours } from "./dom.js";
import { paintSmall } from "./paint.js";
import { lastEnd, toNote } from "./piece.js";
import { player } from "./sound.js";
import { store, stored } from "./store.js";

const MAX_TAKES = 24;

export class Takes {
  takes = stored("takes", []); // { id, title, facts, rows, tempo, cut }, the newest first
  marked = stored("marked", { A: null, B: null });

  constructor({ edit }) {
    this.edit = edit;
    player.addEventListener("change", () => this.#buttons());
    onColours(() => this.#paint());
    new ResizeObserver(() => this.#paint()).observe(find("#takes"));
    const follow = () => {
      if (player.playing && player.owner !== "editor") this.#paint();
      requestAnimationFrame(follow);
    };
    follow();
    this.show();
  }

  add(title, facts, pieces, { tempo, cut = 0 }) {
    const next = 1 + Math.max(0, ...this.takes.map((take) => take.id));
    const made = pieces.map((rows, i) => ({ id: next + i, title, facts, rows, tempo, cut }));
    this.takes = [...made, ...this.takes].slice(0, MAX_TAKES);
    this.#save();
    return made;
  }

  remove(take) {
    if (player.owner === take.id) player.pause();
    this.takes = this.takes.filter((other) => other !== take);
    for (const side of ["A", "B"]) if (this.marked[side] === take.id) this.marked[side] = null;
    this.#save();
  }

  mark(side, take) {
    this.marked[side] = this.marked[side] === take.id ? null : take.id;
    this.#save();
  }

  play(take, from = player.owner === take.id ? player.position : 0) {
    if (player.playing && player.owner === take.id) return player.pause();
    const notes = take.rows.map(toNote),
      end = lastEnd(notes);
    return player.play(take.id, from >= end - 0.05 ? 0 : from, { notes: () => notes, until: () => end });
  }

  #save() {
    store("takes", this.takes);
    store("marked", this.marked);
    this.show();
  }

  show() {
    find("#no-takes").hidden = this.takes.length > 0;
    find("#takes").replaceChildren(...this.takes.map((take) => this.#card(take)));
    const [a, b] = ["A", "B"].map((side) => this.takes.find((take) => take.id === this.marked[side]));
    find("#compare").hidden = !a || !b;
    find("#compare .versus").replaceChildren(
      ...(a && b ? [this.#side("A", a, b), this.#side("B", b, a)] : []),
    );
    this.#buttons();
    this.#paint();
  }

  #name(take) {
    return `Take ${take.id}, ${take.title}`;
  }

  #playButton(take, action) {
    const icon = make(
      "svg:svg",
      { viewBox: "0 0 24 24", "aria-hidden": "true" },
      make("svg:path", { class: "to-play", d: "M7 4v16l13-8z" }),
      make("svg:path", { class: "to-pause", d: "M6 4h4v16H6zM14 4h4v16h-4z" }),
    );
    return make(
      "button",
      { type: "button", class: "play small-play", "data-take": take.id, onclick: action },
      icon,
    );
  }

  #card(take) {
    const id = `take-${take.id}`,
      seconds = lastEnd(take.rows.map(toNote));
    const marks = ["A", "B"].map((side) =>
      make(
        "button",
        {
          type: "button",
          "aria-pressed": String(this.marked[side] === take.id),
          onclick: () => this.mark(side, take),
          "aria-label": `${side}: compare take ${take.id}`,
        },
        side,
      ),
    );
    return make(
      "article",
      { class: "card take", "aria-labelledby": id },
      make(
        "header",
        {},
        this.#playButton(take, () => this.play(take)),
        make(
          "div",
          {},
          make("h4", { id }, this.#name(take)),
          make("p", { class: "muted" }, `${take.rows.length} notes, ${clock(seconds)}`),
        ),
      ),
      make("canvas", { class: "small-roll", "data-roll": take.id, "aria-hidden": "true" }),
      make("p", { class: "muted facts" }, this.#facts(take)),
      make(
        "div",
        { class: "buttons" },
        make(
          "button",
          { type: "button", onclick: () => this.edit(take), "aria-label": `Edit take ${take.id}` },
          "Edit",
        ),
        ...marks,
        make(
          "button",
          {
            type: "button",
            class: "quiet",
            onclick: () => this.remove(take),
            "aria-label": `Remove take ${take.id}`,
          },
          "Remove",
        ),
      ),
    );
  }

  #facts(take) {
    return Object.entries(take.facts)
      .map(([name, value]) => `${name} ${value}`)
      .join(", ");
  }

  /** One of two takes; playing it continues where the other one is. */
  #side(side, take, other) {
    const names = new Set([...Object.keys(take.facts), ...Object.keys(other.facts)]);
    const differing = [...names].filter((name) => String(take.facts[name]) !== String(other.facts[name]));
    const lines = differing.map((name) =>
      make("div", {}, make("dt", {}, name), make("dd", {}, String(take.facts[name] ?? "–"))),
    );
    const from = () => ([take.id, other.id].includes(player.owner) ? player.position : 0);
    return make(
      "div",
      { class: "side-of" },
      make(
        "header",
        {},
        this.#playButton(take, () => this.play(take, from())),
        make("h4", {}, `${side}: ${this.#name(take)}`),
      ),
      make("canvas", { class: "small-roll large", "data-roll": take.id, "aria-hidden": "true" }),
      lines.length
        ? make("dl", { class: "muted" }, ...lines)
        : make("p", { class: "muted" }, "No setting differs."),
    );
  }

  #buttons() {
    for (const button of document.querySelectorAll("[data-take]")) {
      const playing = player.playing && player.owner === Number(button.dataset.take);
      button.classList.toggle("playing", playing);
      button.setAttribute("aria-label", `${playing ? "Pause" : "Play"} take ${button.dataset.take}`);
    }
  }

  #paint() {
    for (const canvas of document.querySelectorAll("[data-roll]")) {
      const take = this.takes.find((one) => one.id === Number(canvas.dataset.roll));
      if (take)
        paintSmall(canvas, take.rows.map(toNote), {
          cut: take.cut,
          position: player.owner === take.id ? player.position : null,
        });
    }
  }
}
