// The pictures of this tab and their runs: a run is one picture with one choice of settings.

import { remember, remembered } from "./storage.js";

const SESSION = "esrgan-pictures";
const SELECTED = "esrgan-selected";
const ENDED = ["done", "failed", "cancelled"];
const NOT_SENT = 410; // status for a file that the page cannot send
const HOPELESS = [NOT_SENT, 415]; // no settings help
const LASTING = [...HOPELESS, 400, 413, 422]; // a retry with the same file and settings fails again

/** Returns a random name, even if crypto.randomUUID is missing, as on plain http. */
export function randomId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Sends "change" with {picture, run} in its detail, or without them if the list has changed, and "end" with a run. */
export class Pictures extends EventTarget {
  #all = restored();
  selected = null;

  constructor() {
    super();
    this.selected = this.#all.find((picture) => picture.id === remembered(SELECTED)) ?? this.#all[0] ?? null;
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

  /** Starts a run; `model` is its model if the settings name none. */
  begin(picture, settings, model) {
    const run = { id: randomId(), picture: picture.id, settings, model, state: "queued", progress: 0, job: null };
    picture.runs.push(run);
    this.#tell(picture, run);
    return run;
  }

  change(run, changes) {
    const { state } = run;
    const wasActive = isActive(run);
    Object.assign(run, changes);
    if (run.state !== state) this.#save();
    const picture = this.pictureOf(run);
    if (!picture) return;
    this.#tell(picture, run);
    if (wasActive && !isActive(run)) this.dispatchEvent(new CustomEvent("end", { detail: run }));
  }

  /** Ends a run with the text of an error. */
  fail(run, { status = 0, type = "", title = "", detail, message }) {
    this.change(run, { state: "failed", problem: { status, type, title, detail: detail ?? message } });
  }

  describe(picture, facts) {
    Object.assign(picture, facts);
    if (this.#all.includes(picture)) this.#tell(picture); // else it was removed while its file was read
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

  /** Restores an earlier list, with what was added since. Runs that had not reached the service are sent again. */
  putBack(all, selected) {
    const added = this.#all.filter((picture) => !all.includes(picture));
    this.#all = [...all, ...added];
    this.selected = selected;
    for (const run of unsent(this.#all)) Object.assign(run, { id: randomId(), state: "queued", progress: 0, note: null });
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
    remember(SELECTED, this.selected?.id ?? "");
  }
}

/** Returns the pictures from before a reload; runs that had not reached the service are sent again. */
function restored() {
  const pictures = JSON.parse(remembered(SESSION) ?? "[]");
  for (const run of unsent(pictures)) run.state = "queued";
  return pictures;
}

function unsent(pictures) {
  return pictures.flatMap((picture) => picture.runs).filter((run) => !run.job && isActive(run));
}

/** True for a run that has not ended. */
export function isActive(run) {
  return Boolean(run) && !ENDED.includes(run.state);
}

/** Returns the permanent error of a file that cannot be sent. */
export function notSent(detail) {
  return Object.assign(new Error(detail), { status: NOT_SENT });
}

/** True if the file itself was refused, whatever the settings. */
export function isRefused(picture) {
  const { state, problem } = latestRun(picture) ?? {};
  return state === "failed" && HOPELESS.includes(problem?.status);
}

/** True if a retry may succeed. */
export function mayTryAgain(picture) {
  const { state, problem } = latestRun(picture) ?? {};
  if (picture.isGone) return false;
  return state === "cancelled" || (state === "failed" && !LASTING.includes(problem?.status));
}

export function latestRun(picture) {
  return picture.runs.at(-1) ?? null;
}

export function doneRuns(picture) {
  return picture.runs.filter((run) => run.state === "done");
}
