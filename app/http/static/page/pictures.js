// The pictures of this tab and the runs of each: one run is one picture with one choice of settings.

import { remember, remembered } from "./storage.js";

const SESSION = "esrgan-pictures";
export const ENDED = ["done", "failed", "cancelled"];
const GONE = 410; // of a file that the browser no longer has
const LASTING = [400, GONE, 413, 415, 422]; // what another attempt with the same file and settings meets again

/** A random name, also where crypto.randomUUID is missing: on plain http. */
export function randomId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Sends "change" with {picture, run} in its detail, or with neither when the list itself has changed. */
export class Pictures extends EventTarget {
  #all = restored();
  selected = null;

  constructor() {
    super();
    this.selected = this.#all[0] ?? null;
    addEventListener("pagehide", () => this.#save());
  }

  get all() {
    return this.#all;
  }

  get runs() {
    return this.#all.flatMap((picture) => picture.runs);
  }

  pictureOf(run) {
    return this.#all.find((picture) => picture.id === run.picture);
  }

  add(file) {
    const picture = { id: randomId(), name: file.name || "pasted.png", bytes: file.size, width: 0, height: 0, runs: [] };
    this.#all.push(picture);
    return picture;
  }

  /** Begins a run; `model` names it where the settings do not. */
  begin(picture, settings, model) {
    const run = { id: randomId(), picture: picture.id, settings, model, state: "queued", progress: 0, job: null };
    picture.runs.push(run);
    this.#tell(picture, run);
    return run;
  }

  change(run, changes) {
    const was = run.state;
    Object.assign(run, changes);
    if (run.state !== was) this.#save();
    const picture = this.pictureOf(run);
    if (picture) this.#tell(picture, run);
  }

  /** Ends a run with the words of an error. */
  fail(run, error) {
    this.change(run, { state: "failed", problem: wordsOf(error) });
  }

  describe(picture, facts) {
    Object.assign(picture, facts);
    this.#tell(picture);
  }

  select(picture) {
    this.selected = picture;
    this.#tell();
  }

  remove(picture) {
    const index = this.#all.indexOf(picture);
    this.#all.splice(index, 1);
    if (this.selected === picture) this.selected = this.#all[Math.min(index, this.#all.length - 1)] ?? null;
    this.#tell();
  }

  /** Leaves all pictures to another tab, which has the same ones. */
  leave() {
    this.#all = [];
    this.selected = null;
    this.#tell();
  }

  #tell(picture, run) {
    if (!run || run.state === "queued") this.#save();
    this.dispatchEvent(new CustomEvent("change", { detail: { picture, run } }));
  }

  #save() {
    remember(SESSION, JSON.stringify(this.#all));
  }
}

/** The pictures before the page was reloaded; what had not reached the service is sent again. */
function restored() {
  const pictures = JSON.parse(remembered(SESSION) ?? "[]");
  for (const run of pictures.flatMap((picture) => picture.runs)) {
    if (!run.job && !ENDED.includes(run.state)) run.state = "queued";
  }
  return pictures;
}

/** Returns the error of a file that cannot be sent, and never will be. */
export function goneFile(detail) {
  return Object.assign(new Error(detail), { status: GONE });
}

/** Returns {status, title, detail} of an error, a Problem or another one. */
export function wordsOf({ status = 0, title = "", detail, message }) {
  return { status, title, detail: detail ?? message };
}

/** True where another attempt may have another end. */
export function mayTryAgain(picture) {
  const { state, problem } = latestRun(picture) ?? {};
  if (picture.isGone) return false;
  return state === "cancelled" || (state === "failed" && !LASTING.includes(problem?.status));
}

/** Returns a problem in words. */
export function reasonOf(problem) {
  return problem ? [problem.title, problem.detail].filter(Boolean).join(": ") : "";
}

export function latestRun(picture) {
  return picture.runs.at(-1) ?? null;
}

export function doneRuns(picture) {
  return picture.runs.filter((run) => run.state === "done");
}
