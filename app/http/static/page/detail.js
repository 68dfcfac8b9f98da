// Draws the visible part of a large result in full resolution over its reduced copy, once the picture rests.

import { element, put } from "./elements.js";
import { partOf } from "./images.js";

const REST_MS = 300;

export class Detail {
  #viewer;
  #timer = 0;
  #drawn = 0;

  constructor(viewer) {
    this.#viewer = viewer;
    viewer.addEventListener("view", () => this.#drawSoon());
  }

  #drawSoon() {
    clearTimeout(this.#timer);
    const drawn = ++this.#drawn;
    const { share, view, ratio } = this.#viewer;
    if (share > 0 && share < 1 && view.zoom * ratio > share) this.#timer = setTimeout(() => this.#draw(drawn), REST_MS);
  }

  async #draw(drawn) {
    const { frame, run } = this.#viewer;
    const part = visiblePart(this.#viewer);
    const canvas = await partOf(await this.#viewer.results.fileOf(run), part);
    if (!canvas || drawn !== this.#drawn || frame !== this.#viewer.frame) return;
    const shown = element("div", { className: "detail" }, canvas);
    put(shown, part.x, part.y, part.width, part.height);
    frame.querySelector(".detail")?.remove();
    frame.append(shown);
  }
}

/** Returns the visible rectangle of the picture, in whole pixels. */
export function visiblePart({ view, size, bounds }) {
  const along = (corner, room, length) => {
    const first = Math.max(0, Math.floor(-corner / view.zoom));
    return [first, Math.min(length, Math.ceil((room - corner) / view.zoom)) - first];
  };
  const [x, width] = along(view.x, bounds.width, size.width);
  const [y, height] = along(view.y, bounds.height, size.height);
  return { x, y, width, height };
}
