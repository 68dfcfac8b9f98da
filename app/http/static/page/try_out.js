// Previews changes of the settings on a part of the picture.

import { byId } from "./elements.js";
import { same, SIZES } from "./parameters.js";
import { factorOf } from "./sizes.js";

const PAUSE_MS = 120; // while a slider moves
const NOT_OF_A_PART = [...SIZES, "format", "quality", "metadata", "frames", "edges", "bits", "compression"];

/** Renders a part with the settings when they differ from those of the shown result. */
export function tryOut({ form, viewer, lens, gestures }) {
  let timer = 0;
  let rendered = "";
  let shown = null;

  function renderSoon(point) {
    clearTimeout(timer);
    timer = setTimeout(() => render(point), PAUSE_MS);
  }

  function render(point) {
    const { picture, run } = viewer;
    const settings = ofAPart(form.values);
    if (!run || same(settings, ofAPart(run.settings))) {
      lens.hide();
      rendered = "";
      return;
    }
    rendered = JSON.stringify(settings);
    const { scale } = form.model;
    const factor = scale && Math.min(scale, Math.max(1, factorOf(picture, form.values, scale)));
    lens.render(settings, factor, point);
  }

  form.addEventListener("change", () => {
    if (JSON.stringify(ofAPart(form.values)) !== rendered) renderSoon(gestures.point);
  });
  byId("stage").addEventListener("rest", () => {
    if (lens.isOpen && !lens.covers(gestures.point)) renderSoon(gestures.point);
  });
  byId("stage").addEventListener("keydown", (event) => {
    const steps = { "[": -1, "]": 1 }[event.key];
    if (steps) form.turnFidelity(steps);
    if (event.key === "Escape") lens.hide();
  });
  viewer.addEventListener("result", () => {
    if (viewer.picture !== shown) {
      lens.hide();
      gestures.forgetPoint();
    }
    shown = viewer.picture;
    render(gestures.point);
  });
}

function ofAPart(settings) {
  return Object.fromEntries(Object.entries(settings).filter(([name]) => !NOT_OF_A_PART.includes(name)));
}
