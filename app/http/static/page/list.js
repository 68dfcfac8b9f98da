// The list of pictures, with the state, progress and buttons of each.

import { byId, element, show } from "./elements.js";
import { isActive, latestRun, mayTryAgain } from "./pictures.js";
import { reasonOf } from "./problems.js";
import { counted, duration, text } from "./texts.js";

const ANIMATED = /\.(gif|webp|a?png)$/i; // formats whose frames the service can upscale, unlike the pages of others
const SETTLED_MS = 500; // an earlier click after a button has changed was meant for its previous action

/** Draws a card for each picture; updates it in place to keep the focus. */
export class List {
  #cards = new Map();
  #list = byId("list");
  #pictures;
  #does;

  /** @param does actions of the buttons of a card: cancel, retry, remove, showFrames; and what cards show. */
  constructor(pictures, does) {
    this.#pictures = pictures;
    this.#does = does;
    pictures.addEventListener("change", ({ detail }) => (detail.picture ? this.#draw(detail.picture) : this.draw()));
  }

  draw() {
    const all = this.#pictures.all;
    for (const [id, card] of this.#cards) {
      if (all.some((picture) => picture.id === id)) continue;
      card.root.remove();
      this.#cards.delete(id);
    }
    all.forEach((picture, index) => {
      this.#draw(picture);
      const { root } = this.#cards.get(picture.id);
      const there = this.#list.children[index];
      if (there !== root) this.#list.insertBefore(root, there); // after an undo
    });
  }

  thumbnail(picture, canvas) {
    this.#cards.get(picture.id)?.thumb.replaceChildren(canvas);
  }

  /** Updates the seconds. */
  drawActive() {
    for (const picture of this.#pictures.all) {
      if (isActive(latestRun(picture))) this.#draw(picture);
    }
  }

  #draw(picture) {
    const card = this.#cards.get(picture.id) ?? this.#add(picture);
    const run = latestRun(picture);
    const state = run?.state ?? "queued";
    const { from, to } = this.#does.sizes(picture, run);
    card.root.dataset.state = state;
    card.show.setAttribute("aria-current", picture === this.#pictures.selected);
    card.size.textContent = to ? `${from} → ${to}` : from;
    card.state.textContent = stateText(run);
    drawBar(card.bar, run);
    nameCross(card, picture, run && !isActive(run) ? "picture.remove" : "picture.cancel");
    show(card.retry, mayTryAgain(picture));
    show(card.frames, run?.shown < run?.frames && ANIMATED.test(picture.name) && this.#does.offersFrames());
  }

  focusOn(picture) {
    this.#cards.get(picture.id)?.root.focus();
  }

  /** Moves the focus of a removed card to the one that takes its place. */
  focusAt(index) {
    const cards = this.#list.children;
    (cards[Math.min(index, cards.length - 1)] ?? byId("choose")).focus();
  }

  /** Cancels or removes, depending on the button; ignores the second click of a double click. */
  #cross(picture, event) {
    const { does, since } = this.#cards.get(picture.id).cross;
    if (event.detail > 1 || performance.now() - since < SETTLED_MS) return;
    if (does === "picture.remove") this.#does.remove(picture);
    else this.#does.cancel(picture);
  }

  #add(picture) {
    const button = (className, act, ...content) =>
      element("button", { type: "button", className, onclick: (event) => act(picture, event) }, ...content);
    const card = {
      thumb: element("span", { className: "thumb", ariaHidden: "true" }),
      size: element("span", { className: "size" }),
      state: element("p", { className: "state" }),
      bar: element("progress", { max: 1, ariaLabel: picture.name }),
      cross: { button: button("icon", (...given) => this.#cross(...given), "✕"), does: "", since: -Infinity },
      retry: button("text", this.#does.retry, text("picture.retry")),
      frames: button("option", this.#does.showFrames, text("frames.show")),
    };
    const facts = element("span", { className: "facts" }, element("span", { className: "name" }, picture.name), card.size);
    card.show = button("show", () => this.#pictures.select(picture), card.thumb, facts);
    card.show.title = text("picture.show", picture);
    const content = [card.show, card.cross.button, card.bar, card.state, card.retry, card.frames];
    card.root = element("li", { className: "card", tabIndex: -1 }, ...content);
    this.#cards.set(picture.id, card);
    this.#list.append(card.root);
    this.#does.appear(picture);
    return card;
  }
}

/** Labels the button with the cross with its current action. */
function nameCross({ cross }, picture, does) {
  if (cross.does === does) return;
  if (cross.does) cross.since = performance.now();
  cross.does = does;
  cross.button.ariaLabel = cross.button.title = text(does, picture);
}

function drawBar(bar, run) {
  show(bar, isActive(run));
  if (!isActive(run)) return;
  const known = run.state === "sending" || (run.state === "running" && run.job);
  if (known) bar.value = run.progress;
  else bar.removeAttribute("value");
}

/** Returns the progress of a run in words. */
function stateText(run) {
  if (!run) return "";
  const percent = Math.min(99, Math.floor(run.progress * 100)); // the file is written after the last band
  if (run.state === "failed") return reasonOf(run.problem) || text("state.failed");
  if (run.state === "done") return run.shown < run.frames ? counted("frames.first_of", run.frames) : "";
  if (run.state === "sending") return text("state.sending", { percent });
  if (run.note && isActive(run)) return run.note; // why nothing is known, or nothing happens
  if (run.state === "running" && !run.job) return text("state.working");
  const parts = [text(`state.${run.state}`, { percent })];
  if (run.state === "waiting" && run.ahead) parts.push(counted("state.ahead", run.ahead));
  const left = (run.endsAt - Date.now()) / 1000;
  const isPredicted = ["waiting", "running"].includes(run.state) && percent < 99; // writing the file has no prediction
  if (isPredicted && left > 0) parts.push(text("state.left", { time: duration(left) }));
  return parts.join(" · ");
}

/** Shows the progress of a picture in the place where it will appear. */
export function drawProgress(picture) {
  const run = picture && latestRun(picture);
  const [words, bar] = byId("progress").children;
  show(byId("progress"), isActive(run));
  words.textContent = isActive(run) ? stateText(run) : "";
  drawBar(bar, run);
}

/** Shows the progress of the whole list. */
export function drawSummary(pictures) {
  const states = pictures.all.map((picture) => latestRun(picture)?.state);
  const count = (state) => states.filter((it) => it === state).length;
  const parts = [text("list.summary", { done: count("done"), total: states.length })];
  if (count("failed")) parts.push(counted("list.failed", count("failed")));
  byId("summary").textContent = parts.join(" · ");
  const isWorking = pictures.all.some((picture) => isActive(latestRun(picture)));
  document.title = isWorking ? text("page.working", { done: count("done"), total: states.length }) : text("page.name");
  show(byId("save-all"), count("done") > 1);
}
