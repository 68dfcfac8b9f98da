// Follows the jobs of all runs: one by its events, the next few by polling.

import { eventsOf } from "./events.js";

const ASK_MS = 2000;
const ASKED_AT_A_TIME = 6;

export class Watcher {
  #api;
  #pictures;
  #asking = false;
  #followed = null;

  constructor(api, pictures) {
    this.#api = api;
    this.#pictures = pictures;
    pictures.addEventListener("change", () => this.#follow());
    setInterval(() => this.#ask(), ASK_MS);
  }

  get #watched() {
    const watched = this.#pictures.runs.filter((run) => run.job && ["waiting", "running"].includes(run.state));
    return watched.sort((a, b) => (b.state === "running") - (a.state === "running"));
  }

  /**
   * Follows the events of one job: a browser has six connections per host, and every tab needs some.
   *
   * Returns when that job or its stream has ended; the next tick starts over.
   */
  async #follow() {
    const run = this.#watched[0];
    if (!run || this.#followed) return;
    this.#followed = run;
    try {
      const answer = await this.#api.fetch(`v1/jobs/${run.job}/events`);
      for await (const { event, data } of eventsOf(answer.body)) {
        if (event === "state") this.#learn(run, JSON.parse(data));
        else if (event === "progress") this.#pictures.change(run, { progress: JSON.parse(data).progress });
      }
    } catch (problem) {
      this.#missed(run, problem);
    } finally {
      this.#followed = null;
    }
    if (!this.#watched.includes(run)) this.#follow();
  }

  /** Polls the next jobs: no event reports their places in the queue. */
  async #ask() {
    if (this.#asking || document.hidden) return;
    this.#asking = true;
    for (const run of this.#watched.slice(0, ASKED_AT_A_TIME)) {
      try {
        const answer = await this.#api.fetch(`v1/jobs/${run.job}`);
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
      problem,
      mediaType: result?.media_type,
      bytes: result?.bytes,
      madeBy: result?.model,
    });
  }

  /** Fails the run if its job is gone; after any other error it is polled again. */
  #missed(run, problem) {
    if (problem.status === 404 || problem.status === 403) this.#pictures.fail(run, problem);
  }
}
