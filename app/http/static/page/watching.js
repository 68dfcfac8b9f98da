// Follows the jobs of all runs: one by its events, the next few by polling.

import { Problem } from "./api.js";
import { eventsOf } from "./events.js";
import { reasonOf } from "./problems.js";
import { text } from "./texts.js";

const ASK_MS = 2000;
const HIDDEN_ASK_MS = 10_000;
const ANSWER_MS = 15_000; // the time for an answer, after which nothing is said to answer
const ASKED_AT_A_TIME = 6;
const STREAM = "esrgan-stream";

export class Watcher {
  #api;
  #pictures;
  #asking = false;
  #asked = 0;
  #followed = null;
  #stop = new AbortController();

  constructor(api, pictures) {
    this.#api = api;
    this.#pictures = pictures;
    pictures.addEventListener("change", () => this.#follow());
    document.addEventListener("visibilitychange", () => (document.hidden ? this.#stop.abort() : this.#ask()));
    setInterval(() => this.#tick(), ASK_MS);
  }

  get #watched() {
    const watched = this.#pictures.runs.filter((run) => run.job && ["waiting", "running"].includes(run.state));
    return watched.sort((a, b) => (b.state === "running") - (a.state === "running"));
  }

  /** Follows the events of one job until it or its stream has ended; the next tick starts over. */
  async #follow() {
    const run = this.#watched[0];
    if (!run || this.#followed || document.hidden) return;
    this.#followed = run;
    await inOneTab(() => this.#stream(run)).finally(() => (this.#followed = null));
    if (!this.#watched.includes(run)) this.#follow();
  }

  async #stream(run) {
    if (document.hidden) return; // since the lock was asked for
    this.#stop = new AbortController();
    try {
      const answer = await this.#api.fetch(`v1/jobs/${run.job}/events`, { signal: this.#stop.signal });
      for await (const { event, data } of eventsOf(answer.body)) {
        if (event === "state") this.#learn(run, JSON.parse(data));
        else if (event === "progress") this.#pictures.change(run, { progress: JSON.parse(data).progress, note: null });
      }
    } catch (problem) {
      if (problem instanceof Problem) this.#missed(run, problem); // else the stream broke off: the next poll says why
    }
  }

  #tick() {
    if (!document.hidden || Date.now() - this.#asked >= HIDDEN_ASK_MS) this.#ask();
  }

  /** Polls the next jobs: no event reports their places in the queue. */
  async #ask() {
    if (this.#asking) return;
    this.#asking = true;
    this.#asked = Date.now();
    for (const run of this.#watched.slice(0, ASKED_AT_A_TIME)) {
      try {
        const answer = await this.#api.fetch(`v1/jobs/${run.job}`, { signal: AbortSignal.timeout(ANSWER_MS) });
        this.#learn(run, await answer.json(), Date.parse(answer.headers.get("Date")));
      } catch (problem) {
        this.#missed(run, problem);
      }
    }
    this.#asking = false;
    this.#follow();
  }

  #learn(run, job, serverNow = NaN) {
    if (run.state === "cancelled") return;
    const [{ result, problem }] = job.pictures;
    const endsAt = Date.parse(job.queue?.predicted_end) - (serverNow || Date.now()) + Date.now();
    this.#pictures.change(run, {
      state: job.state,
      progress: job.progress,
      ahead: job.queue?.position ?? 0,
      endsAt: endsAt || null,
      note: null,
      problem,
      mediaType: result?.media_type,
      bytes: result?.bytes,
      madeBy: result?.model,
      frames: result?.frames,
      shown: result?.shown,
    });
  }

  /** Fails the run if its job is gone; after any other error it is polled again, and its progress is unknown. */
  #missed(run, problem) {
    if (run.state === "cancelled" || problem.status === 429) return; // a key has a limit on streams, not on polls
    if (problem.status === 404 || problem.status === 403) return this.#pictures.fail(run, problem);
    const note = problem.status === 401 ? reasonOf(problem) : text("state.offline");
    this.#pictures.change(run, { note, endsAt: null });
  }
}

/** Runs in one tab of the browser at a time: it has six connections per host, and every tab needs some. */
async function inOneTab(work) {
  if (!navigator.locks) return work(); // on plain http
  return navigator.locks.request(STREAM, { ifAvailable: true }, (lock) => lock && work());
}
