// Takes pictures off the list; they and their jobs are removed for good once the time for "Undo" is over.

import { byId, show } from "./elements.js";
import { counted } from "./texts.js";

const UNDO_MS = 10_000;

export class Removal {
  #pictures;
  #sender;
  #does;
  #before = null; // the list, and the selected picture, until the removal is final
  #timer = 0;

  /** @param does forget: removes the files of a picture from the browser; start: sends pictures without a run. */
  constructor(pictures, sender, does) {
    this.#pictures = pictures;
    this.#sender = sender;
    this.#does = does;
    byId("undo").onclick = () => this.#undo();
    addEventListener("pagehide", () => this.#finish());
  }

  remove(removed) {
    this.#finish(); // of an earlier one
    const { all, selected } = this.#pictures;
    this.#before = { all: [...all], selected, removed };
    for (const picture of removed) {
      picture.runs.forEach((run) => this.#sender.stop(run));
      this.#pictures.remove(picture);
    }
    byId("removed").firstElementChild.textContent = byId("said").textContent = counted("list.removed", removed.length);
    show(byId("removed"), removed.length > 0);
    this.#finishLater();
  }

  #finishLater() {
    clearTimeout(this.#timer);
    const inUse = matchMedia("(hover: hover)").matches ? ":hover, :focus-within" : ":focus-within"; // a tap hovers for ever
    const isInUse = () => byId("removed").matches(inUse);
    this.#timer = setTimeout(() => (isInUse() ? this.#finishLater() : this.#finish()), UNDO_MS);
  }

  #finish() {
    clearTimeout(this.#timer);
    show(byId("removed"), false);
    for (const picture of this.#before?.removed ?? []) {
      picture.runs.forEach((run) => this.#sender.forget(run));
      this.#does.forget(picture);
    }
    this.#before = null;
  }

  #undo() {
    const { all, selected } = this.#before;
    this.#before = null;
    this.#finish();
    this.#pictures.putBack(all, selected);
    this.#does.start();
    byId("pictures").focus();
  }
}
