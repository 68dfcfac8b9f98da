// The picture before and after, as two layers with a divider.

import { byId, choose, element, option, show } from "./elements.js";
import { find } from "./files.js";
import { bicubicOf, imageOf, REDUCED_PX, release, resultOf } from "./images.js";
import { doneRuns, latestRun } from "./pictures.js";
import { reasonOf } from "./problems.js";
import { settingText, text } from "./texts.js";
import { centred, fitted, limited } from "./view.js";

const MAX_BICUBIC_PX = 24e6;
const AGAIN_MS = 3000; // after a connection was lost
const PIXELS_FROM = 3; // screen pixels per pixel of the result from which each is drawn as a square

/** Shows a picture. Sends "view" when the picture has moved, and "result" when the shown result changes. */
export class Viewer extends EventTarget {
  results;
  #sizeOf;
  #layers = { before: byId("layer-before"), after: byId("layer-after") };
  #stage = byId("stage");
  #shown = 0; // number of calls to show a picture: late results of earlier calls are dropped
  #key = "";
  #isFitted = true;
  isZoomed = false; // true if parts of the picture are outside the window
  picture = null;
  size = null; // of the result
  share = 1; // side of the shown copy over that of the result
  file = null;
  view = { zoom: 1, x: 0, y: 0 };

  /** @param sizeOf returns the size of the answer for a picture and settings, if it is known. */
  constructor(results, sizeOf) {
    super();
    this.results = results;
    this.#sizeOf = sizeOf;
    byId("before").addEventListener("input", () => this.#drawBefore());
    byId("after").addEventListener("input", () => this.#drawAfter());
    byId("divider").addEventListener("input", () => this.#drawDivider());
    new ResizeObserver(() => this.place(this.#isFitted ? null : this.view)).observe(this.#stage);
    this.#drawDivider();
  }

  get ratio() {
    return devicePixelRatio || 1;
  }

  get bounds() {
    return this.#stage.getBoundingClientRect();
  }

  /** The run whose result is shown, if any. */
  get run() {
    return this.picture?.runs.find((run) => run.id === byId("after").value) ?? null;
  }

  /** The element that contains the result. */
  get frame() {
    return this.#layers.after.firstElementChild;
  }

  /** Size of the original over that of the result. */
  get originalShare() {
    return this.size && this.picture.width ? this.picture.width / this.size.width : 0;
  }

  /** Shows a picture in its current state; does nothing if it is already shown. */
  async show(picture) {
    const done = picture ? doneRuns(picture) : [];
    const key = picture ? [picture.id, picture.width, picture.runs.length, latestRun(picture)?.problem, ...done.map((run) => run.id)].join() : "";
    if (key === this.#key) return;
    const isNew = picture !== this.picture;
    this.#key = key;
    this.picture = picture;
    const shown = ++this.#shown;
    if (isNew) this.#clear();
    if (!picture) return;
    this.#drawChoices(done);
    if (isNew) this.file = null;
    const file = this.file ?? (await find(picture.id));
    if (shown !== this.#shown) return;
    this.file = file;
    await Promise.all([this.#drawAfter(), this.#drawBefore()]);
  }

  /** Sets the view; without one, fits the picture into the window. */
  place(view) {
    const { width, height } = this.bounds;
    if (!this.size || !width || !height) return; // nothing to place, or no room for it, as in a hidden frame
    const stage = { width, height };
    const fit = fitted(stage, this.size, this.ratio);
    this.view = view ? limited(view, stage, this.size, this.ratio) : fit;
    this.#isFitted = Math.abs(this.view.zoom / fit.zoom - 1) < 1e-6; // a step in and one out are not quite 1
    this.isZoomed = !this.#isFitted && this.view.zoom > fit.zoom;
    for (const layer of Object.values(this.#layers)) this.#placeIn(layer);
    this.#stage.classList.toggle("zoomed", this.isZoomed);
    byId("zoom").textContent = text("view.zoom", { percent: Math.round(this.view.zoom * this.ratio * 100) });
    this.dispatchEvent(new Event("view"));
  }

  /** Shows one pixel of the result per screen pixel. */
  placePixels() {
    if (this.size) this.place(centred(this.bounds, this.size, 1 / this.ratio));
  }

  #placeIn(layer) {
    const frame = layer.firstElementChild;
    if (!frame) return;
    const { zoom, x, y } = this.view;
    frame.style.width = `${this.size.width}px`;
    frame.style.height = `${this.size.height}px`;
    frame.style.transform = `translate(${x}px, ${y}px) scale(${zoom})`;
    frame.classList.toggle("pixels", frame.classList.contains("nearest") || zoom * this.ratio >= PIXELS_FROM);
  }

  #clear() {
    for (const layer of Object.values(this.#layers)) this.#put(layer, null);
    this.size = null;
    this.#isFitted = true;
    this.isZoomed = false;
    this.#stage.classList.remove("zoomed");
    byId("before").value = "bicubic";
    byId("zoom").textContent = "";
    this.say("");
  }

  #drawChoices(done) {
    const before = [["bicubic", text("view.bicubic")], ["nearest", text("view.nearest")]];
    const runs = done.map((run) => [run.id, this.#labelOf(run)]);
    fill(byId("before"), [...before, ...(runs.length > 1 ? runs : [])]);
    fill(byId("after"), runs);
    byId("after").value = done.at(-1)?.id ?? "";
    show(byId("after").parentElement, runs.length > 1);
    show(byId("divider"), runs.length > 0);
    show(byId("tags"), runs.length > 0);
    this.#drawDivider();
  }

  #labelOf(run) {
    const { model, ...others } = run.settings;
    return [model ?? run.model, ...Object.entries(others).map((setting) => settingText(...setting))].join(" · ");
  }

  async #drawAfter() {
    const { run, picture } = this;
    const shown = this.#shown;
    if (!run) {
      this.#put(this.#layers.after, null);
      this.#use(this.#expectedSize());
      this.say(reasonOf(latestRun(picture)?.problem));
      this.dispatchEvent(new Event("result"));
      return;
    }
    this.say(text("view.loading"));
    let problem = null;
    const result = await this.#resultOf(run).catch((error) => ((problem = error), null));
    const isCurrent = () => shown === this.#shown && run === this.run;
    if (!isCurrent()) return release(result?.element);
    if (problem?.isTemporary) setTimeout(() => isCurrent() && this.#drawAfter(), AGAIN_MS);
    this.#put(this.#layers.after, result?.element ?? null);
    this.share = result?.share ?? 0;
    this.#use(result ?? this.#expectedSize());
    this.say(problem ? reasonOf(problem) : wordsOn(result, picture, run));
    byId("tag-after").textContent = this.#labelOf(run);
    this.dispatchEvent(new Event("result"));
  }

  /** Returns a result for display; a result that is too large is not fetched. */
  async #resultOf(run) {
    const size = this.#sizeOf(this.picture, run.settings);
    if (size && size.width * size.height > REDUCED_PX) return { element: null, ...size, share: 0 };
    return resultOf(await this.results.fileOf(run));
  }

  async #drawBefore() {
    const { picture, file } = this;
    const shown = this.#shown;
    const choice = byId("before").value;
    const isCurrent = () => shown === this.#shown && choice === byId("before").value;
    byId("tag-before").textContent = byId("before").selectedOptions[0]?.textContent ?? "";
    const other = picture.runs.find((run) => run.id === choice);
    if (other) {
      const result = await this.#resultOf(other).catch(() => null);
      if (!isCurrent()) return release(result?.element);
      this.#put(this.#layers.before, result?.element ?? null);
      return;
    }
    const image = file && (await imageOf(file));
    if (!isCurrent()) return release(image);
    if (!image) return this.#put(this.#layers.before, null);
    this.#put(this.#layers.before, image, choice);
    if (choice === "bicubic" && this.run) await this.#drawBicubic(isCurrent);
  }

  /** Replaces the browser's smoothing, which differs between browsers, by bicubic interpolation. */
  async #drawBicubic(isCurrent) {
    const { width, height } = this.#expectedSize() ?? {};
    if (!width || width * height > MAX_BICUBIC_PX) return;
    const canvas = await bicubicOf(this.file, this.picture, { width, height }).catch(() => null);
    if (canvas && isCurrent()) this.#put(this.#layers.before, canvas);
  }

  /** Size of the current or expected result; the size of the original until that is known. */
  #expectedSize() {
    const { picture } = this;
    const run = this.run ?? latestRun(picture);
    return (run && this.#sizeOf(picture, run.settings)) ?? (picture.width ? picture : null);
  }

  #use(size) {
    if (!size) return;
    const changed = size.width !== this.size?.width || size.height !== this.size?.height;
    this.size = { width: size.width, height: size.height };
    this.place(changed || this.#isFitted ? null : this.view);
  }

  #put(layer, content, className = "") {
    release(layer.firstElementChild?.firstElementChild);
    layer.replaceChildren();
    if (!content) return;
    layer.append(element("div", { className: `frame ${className}` }, content));
    if (this.size) this.#placeIn(layer);
  }

  /** Shows a message over the picture. */
  say(sentence) {
    byId("note").textContent = sentence;
    show(byId("note"), sentence !== "");
  }

  #drawDivider() {
    const hasResult = !byId("divider").hidden;
    this.#stage.style.setProperty("--at", hasResult ? `${byId("divider").value}%` : "100%");
  }
}

function wordsOn(result, picture, run) {
  if (!result) return text("view.unreadable", { format: (run.mediaType ?? "").replace("image/", "") });
  if (result.share === 0) return text("view.too_large");
  return result.share < 1 ? text("view.reduced", { percent: Math.round(result.share * 100) }) : "";
}

function fill(select, choices) {
  const { value } = select;
  select.replaceChildren(...choices.map(([id, label]) => option(id, label)));
  choose(select, value, choices[0]?.[0] ?? "");
}
