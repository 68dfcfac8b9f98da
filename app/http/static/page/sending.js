// Sends runs to the service, in order: as jobs, or if it takes none, as requests that wait for the result.

import { find, isReadable, keep } from "./files.js";
import { notSent } from "./pictures.js";
import { waitText } from "./problems.js";
import { megabytes, text } from "./texts.js";

const AT_A_TIME = 2; // a browser opens few connections to a host
const AGAIN_S = 3;

export class Sender {
  #api;
  #pictures;
  #service;
  #sending = new Map();
  #freed = 0; // number of times that work of this tab has made room

  /** @param service a promise: {takesJobs, maxBytes}, whether the service takes jobs, and its limit on a file. */
  constructor(api, pictures, service) {
    this.#api = api;
    this.#pictures = pictures;
    this.#service = service;
    pictures.addEventListener("end", () => this.#freed++);
  }

  /** Sends what is queued, from now on: a duplicated tab has left the list of the first one by then. */
  start() {
    this.#pictures.addEventListener("change", () => this.#sendNext());
    this.#sendNext();
  }

  /** Stops a run, in the page or in the service. */
  async cancel(run) {
    this.#pictures.change(run, { state: "cancelled" });
    await this.forget(run);
  }

  /** Stops sending a run; what has reached the service goes on. */
  stop(run) {
    this.#sending.get(run.id)?.abort();
  }

  /** Stops a run whose picture is removed, and removes its job from the service. */
  async forget(run) {
    this.stop(run);
    if (run.job) await this.#remove(run.job);
  }

  async #remove(job) {
    await this.#api.fetch(`v1/jobs/${job}`, { method: "DELETE", keepalive: true }).catch(() => {});
    this.#freed++;
  }

  #sendNext() {
    const next = this.#pictures.runs.find((run) => run.state === "queued" && !this.#sending.has(run.id));
    if (!next || this.#sending.size >= AT_A_TIME) return;
    const abort = new AbortController();
    const { id } = next; // an undo gives the run a new one
    this.#sending.set(id, abort);
    this.#send(next, abort.signal).finally(() => {
      this.#sending.delete(id);
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
    if (!file) throw notSent(text("picture.lost"));
    if (!(await isReadable(file))) throw notSent(text("picture.unreadable")); // else the request fails as if offline
    const { takesJobs, maxBytes } = await this.#service;
    if (file.size > maxBytes) throw notSent(tooLarge(file.size, maxBytes));
    signal.throwIfAborted();
    const change = (changes) => signal.aborted || this.#pictures.change(run, changes); // cancelled runs stay so
    change({ state: "sending", progress: 0, note: null });
    const answer = await this.#api.send(takesJobs ? "v1/jobs" : "v1/upscale", {
      query: run.settings,
      file,
      name,
      signal,
      untilSent: takesJobs,
      headers: takesJobs ? { "Idempotency-Key": run.id } : {},
      onSent: (share) => change(share < 1 ? { progress: share } : { state: takesJobs ? "waiting" : "running", progress: 0 }),
    });
    const reached = await (takesJobs ? accepted(answer) : kept(run, answer));
    change(reached);
    if (signal.aborted && reached.job) await this.#remove(reached.job);
  }

  /** Waits for the time that the service names, and shows the seconds; at a limit, until this tab has made room. */
  async #waitFor(problem, run, signal) {
    const freed = this.#freed;
    for (let left = problem.retryAfterS || AGAIN_S; left > 0 && !signal.aborted; left--) {
      this.#pictures.change(run, { state: "queued", note: waitText(problem, left) });
      await new Promise((resolve) => setTimeout(resolve, 1000));
      if (problem.status === 429 && freed !== this.#freed) return;
    }
  }
}

function tooLarge(bytes, limit) {
  return text("picture.too_large", { size: megabytes(bytes, Math.ceil), limit: megabytes(limit, Math.floor) });
}

async function accepted({ body }) {
  return { state: "waiting", job: JSON.parse(await body.text()).id, progress: 0 };
}

async function kept(run, { body, header }) {
  await keep(run.id, body);
  const [shown, frames] = (header("X-Frames") ?? "1 of 1").split(" of ").map(Number);
  return { state: "done", progress: 1, mediaType: body.type, bytes: body.size, shown, frames };
}
