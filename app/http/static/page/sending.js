// Sends runs to the service, in order: as jobs, or if it takes none, as requests that wait for the result.

import { find, isReadable, keep } from "./files.js";
import { goneFile } from "./pictures.js";
import { text } from "./texts.js";

const AT_A_TIME = 2; // a browser opens few connections to a host
const AGAIN_S = 3;

export class Sender {
  #api;
  #pictures;
  #takesJobs;
  #sending = new Map();

  /** @param takesJobs a promise: true if the service takes jobs. */
  constructor(api, pictures, takesJobs) {
    this.#api = api;
    this.#pictures = pictures;
    this.#takesJobs = takesJobs;
    pictures.addEventListener("change", () => this.#sendNext());
  }

  start() {
    this.#sendNext();
  }

  /** Stops a run, in the page or in the service. */
  async cancel(run) {
    this.#pictures.change(run, { state: "cancelled" });
    await this.forget(run);
  }

  /** Stops a run whose picture is removed, and removes its job from the service. */
  async forget(run) {
    this.#sending.get(run.id)?.abort();
    if (run.job) await this.#remove(run.job);
  }

  async #remove(job) {
    await this.#api.fetch(`v1/jobs/${job}`, { method: "DELETE" }).catch(() => {});
  }

  #sendNext() {
    const next = this.#pictures.runs.find((run) => run.state === "queued" && !this.#sending.has(run.id));
    if (!next || this.#sending.size >= AT_A_TIME) return;
    const abort = new AbortController();
    this.#sending.set(next.id, abort);
    this.#send(next, abort.signal).finally(() => {
      this.#sending.delete(next.id);
      this.#sendNext();
    });
    this.#sendNext();
  }

  async #send(run, signal) {
    while (!signal.aborted) {
      try {
        await this.#attempt(run, signal);
        return;
      } catch (problem) {
        if (signal.aborted) return;
        if (!problem.isTemporary) {
          this.#pictures.fail(run, problem);
          return;
        }
        await this.#waitFor(problem, run, signal);
      }
    }
  }

  async #attempt(run, signal) {
    const { name } = this.#pictures.pictureOf(run);
    const file = await find(run.picture);
    if (!file) throw goneFile(text("picture.lost"));
    if (!(await isReadable(file))) throw goneFile(text("picture.unreadable")); // else the request fails as if offline
    const takesJobs = await this.#takesJobs;
    signal.throwIfAborted();
    const change = (changes) => signal.aborted || this.#pictures.change(run, changes); // cancelled runs stay so
    change({ state: "sending", progress: 0, note: null });
    const body = await this.#api.send(takesJobs ? "v1/jobs" : "v1/upscale", {
      query: run.settings,
      file,
      name,
      signal,
      untilSent: takesJobs,
      headers: takesJobs ? { "Idempotency-Key": run.id } : {},
      onSent: (share) => change(share < 1 ? { progress: share } : { state: "waiting", progress: 0 }),
    });
    const reached = await (takesJobs ? accepted(body) : kept(run, body));
    change(reached);
    if (signal.aborted && reached.job) await this.#remove(reached.job);
  }

  /** Waits for the time that the service names, and shows the seconds. */
  async #waitFor(problem, run, signal) {
    for (let left = problem.retryAfterS || AGAIN_S; left > 0 && !signal.aborted; left--) {
      const note = problem.isOutOfReach ? text("state.offline") : text("state.busy", { seconds: left });
      this.#pictures.change(run, { state: "queued", note });
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  }
}

async function accepted(body) {
  return { state: "waiting", job: JSON.parse(await body.text()).id, progress: 0 };
}

async function kept(run, body) {
  await keep(run.id, body);
  return { state: "done", progress: 1, mediaType: body.type, bytes: body.size };
}
