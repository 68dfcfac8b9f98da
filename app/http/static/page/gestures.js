// Moves the picture in its window: mouse, wheel, fingers, keys and buttons.

import { byId } from "./elements.js";
import { picturePoint, zoomedAt } from "./view.js";

const STEP = 1.5; // zoom factor of a key or a button
const PAN_PX = 60; // distance of an arrow key
const REST_MS = 150; // a pointer that stays this long points at its place

export class Gestures {
  #viewer;
  #stage = byId("stage");
  #pointers = new Map();
  #rested = null;
  #timer = 0;

  constructor(viewer) {
    this.#viewer = viewer;
    const on = (type, act) => this.#stage.addEventListener(type, (event) => act.call(this, event));
    on("pointerdown", this.#press);
    on("pointermove", this.#move);
    for (const type of ["pointerup", "pointercancel"]) on(type, this.#release);
    on("pointerleave", () => clearTimeout(this.#timer));
    on("wheel", this.#turn);
    on("dblclick", this.#toggle);
    on("keydown", this.#type);
    byId("zoom-in").onclick = () => this.#zoom(STEP);
    byId("zoom-out").onclick = () => this.#zoom(1 / STEP);
    byId("fit").onclick = () => viewer.place(null);
    byId("pixels").onclick = () => viewer.placePixels();
  }

  /** The point of the picture where the pointer last rested, or in the middle of the window. */
  get point() {
    const { width, height } = this.#viewer.bounds;
    return this.#rested ?? picturePoint(this.#viewer.view, { x: width / 2, y: height / 2 });
  }

  forgetPoint() {
    this.#rested = null;
  }

  #at(event) {
    const { left, top } = this.#viewer.bounds;
    return { x: event.clientX - left, y: event.clientY - top };
  }

  #press(event) {
    if (event.target.id === "divider" || event.button > 0) return;
    this.#stage.setPointerCapture(event.pointerId);
    this.#pointers.set(event.pointerId, this.#at(event));
    this.#rest(this.#at(event));
  }

  #move(event) {
    const now = this.#at(event);
    clearTimeout(this.#timer);
    if (!this.#pointers.has(event.pointerId)) {
      this.#timer = setTimeout(() => this.#rest(now), REST_MS);
      return;
    }
    const before = spread([...this.#pointers.values()]);
    this.#pointers.set(event.pointerId, now);
    if (this.#pointers.size === 1 && !this.#viewer.isZoomed) return; // the browser may scroll the page instead
    const after = spread([...this.#pointers.values()]);
    const { view } = this.#viewer;
    const zoomed = zoomedAt(view, (view.zoom * after.length) / before.length, after);
    this.#viewer.place({ ...zoomed, x: zoomed.x + after.x - before.x, y: zoomed.y + after.y - before.y });
  }

  #release(event) {
    this.#pointers.delete(event.pointerId);
  }

  #rest(point) {
    this.#rested = picturePoint(this.#viewer.view, point);
    this.#stage.dispatchEvent(new Event("rest"));
  }

  /** Zooms, unless the page has to scroll past the fitted picture; with Ctrl, as from a touchpad's pinch, always. */
  #turn(event) {
    const { scrollHeight, clientHeight } = document.documentElement;
    if (!event.ctrlKey && !this.#viewer.isZoomed && scrollHeight > clientHeight) return;
    event.preventDefault();
    this.#zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), this.#at(event));
  }

  #toggle(event) {
    if (event.target.id === "divider") return;
    const { view, ratio } = this.#viewer;
    const isClose = view.zoom * ratio > 0.99;
    this.#viewer.place(isClose ? null : zoomedAt(view, 1 / ratio, this.#at(event)));
  }

  #type(event) {
    if (event.target !== this.#stage || event.ctrlKey || event.metaKey || event.altKey) return;
    const acts = {
      "+": () => this.#zoom(STEP),
      "=": () => this.#zoom(STEP),
      "-": () => this.#zoom(1 / STEP),
      0: () => this.#viewer.place(null),
      1: () => this.#viewer.placePixels(),
      ArrowLeft: () => this.#pan(PAN_PX, 0),
      ArrowRight: () => this.#pan(-PAN_PX, 0),
      ArrowUp: () => this.#pan(0, PAN_PX),
      ArrowDown: () => this.#pan(0, -PAN_PX),
    };
    if (!acts[event.key]) return;
    if (event.key.startsWith("Arrow") && !this.#viewer.isZoomed) return; // scrolls the page
    event.preventDefault();
    acts[event.key]();
  }

  #pan(x, y) {
    const { view } = this.#viewer;
    this.#viewer.place({ ...view, x: view.x + x, y: view.y + y });
  }

  #zoom(factor, point) {
    const { view, bounds } = this.#viewer;
    this.#viewer.place(zoomedAt(view, view.zoom * factor, point ?? { x: bounds.width / 2, y: bounds.height / 2 }));
  }
}

/** Returns the centre of one or two fingers, and their distance. */
function spread([a, b = a]) {
  return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, length: Math.hypot(a.x - b.x, a.y - b.y) || 1 };
}
