// A part of the picture, rendered by the service with the current settings.
//
// The part is a small upload, so the service batches it with other small pictures, before the large ones.

import { byId, element, put, show } from "./elements.js";
import { cropOf } from "./images.js";
import { text } from "./texts.js";

const MARGIN_PX = 16; // pixels around the part that the network sees and the page does not show
const SIDES_PX = [48, 224]; // minimum and maximum of the part, by the speed of the machine
const QUICK_S = 0.35;
const SLOW_S = 0.8;

export class Lens {
  #api;
  #viewer;
  #root = byId("lens");
  #side = 112;
  #abort = null;
  #part = null;

  constructor(api, viewer) {
    this.#api = api;
    this.#viewer = viewer;
    viewer.addEventListener("view", () => this.#place());
  }

  get isOpen() {
    return !this.#root.hidden;
  }

  /** True if a point of the result is in the part that is shown. */
  covers({ x, y }) {
    if (!this.#part) return false;
    const { seen } = this.#part;
    const [left, top] = [x * this.#viewer.originalShare - seen.x, y * this.#viewer.originalShare - seen.y];
    return left >= 0 && top >= 0 && left <= seen.width && top <= seen.height;
  }

  hide() {
    this.#abort?.abort();
    this.#part = null;
    show(this.#root, false);
    this.#root.querySelector(".part").replaceChildren();
  }

  /**
   * Renders the part around a point of the result; a later call replaces this one.
   *
   * @param factor enlargement; null for the model's scale, if that is not known yet.
   */
  async render(settings, factor, point) {
    const { picture, file, originalShare } = this.#viewer;
    if (!file || !originalShare) return;
    this.#abort?.abort();
    const abort = (this.#abort = new AbortController());
    const part = partAround(point, originalShare, picture, this.#side);
    this.#part ??= part;
    show(this.#root, true);
    this.#say("view.lens_waiting");
    this.#place();
    try {
      const began = performance.now();
      const query = { ...settings, ...(factor && { scale: factor }), format: "png" };
      const crop = await cropOf(file, part.read);
      const answer = await this.#api.send("v1/upscale", { query, file: crop, name: "part.png", signal: abort.signal });
      this.#adapt((performance.now() - began) / 1000);
      this.#show(part, answer.body);
      this.#say("view.lens");
    } catch (problem) {
      if (!abort.signal.aborted) this.#root.querySelector(".tag").textContent = problem.message;
    }
  }

  #show(part, answer) {
    const image = element("img", { src: URL.createObjectURL(answer), alt: "" });
    image.onload = () => URL.revokeObjectURL(image.src);
    this.#part = part;
    this.#root.querySelector(".part").replaceChildren(image);
    this.#place();
  }

  #say(name) {
    this.#root.querySelector(".tag").textContent = text(name);
  }

  /** Chooses a side that the service renders within a second. */
  #adapt(seconds) {
    const [least, most] = SIDES_PX;
    if (seconds > SLOW_S) this.#side = Math.max(least, Math.round(this.#side * 0.7));
    else if (seconds < QUICK_S) this.#side = Math.min(most, Math.round(this.#side * 1.25));
  }

  #place() {
    if (!this.isOpen || !this.#part || !this.#viewer.originalShare) return;
    const { view, originalShare } = this.#viewer;
    const unit = view.zoom / originalShare; // pixels of the page per pixel of the original
    const { seen, read } = this.#part;
    put(this.#root, view.x + seen.x * unit, view.y + seen.y * unit, seen.width * unit, seen.height * unit);
    const image = this.#root.querySelector("img");
    if (image) put(image, (read.x - seen.x) * unit, (read.y - seen.y) * unit, read.width * unit, read.height * unit);
  }
}

/** Returns the shown rectangle of the original around a point of the result, and the one to upload, with a margin. */
export function partAround({ x, y }, originalShare, { width, height }, side) {
  const along = (centre, length) => {
    const wanted = Math.min(side, length);
    const first = Math.round(Math.min(length - wanted, Math.max(0, centre * originalShare - wanted / 2)));
    const before = Math.min(MARGIN_PX, first);
    const after = Math.min(MARGIN_PX, length - first - wanted);
    return { seen: [first, wanted], read: [first - before, before + wanted + after] };
  };
  const across = along(x, width);
  const down = along(y, height);
  const rectangle = (part) => ({ x: across[part][0], y: down[part][0], width: across[part][1], height: down[part][1] });
  return { seen: rectangle("seen"), read: rectangle("read") };
}
