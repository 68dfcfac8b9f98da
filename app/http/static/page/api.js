// The public API of the service: URLs, the key, and errors as exceptions.

import { remember, remembered } from "./storage.js";
import { text, textOr } from "./texts.js";

const KEY = "esrgan-key";

/** An error answer: a problem document (RFC 9457). */
export class Problem extends Error {
  constructor({ status = 0, type = "", title = "", detail = "", retryAfterS = 0 }) {
    super(detail || title);
    Object.assign(this, { status, type, title, detail, retryAfterS });
  }

  /** True if the same request may succeed later: the service is busy, starting, stopping or out of reach. */
  get isTemporary() {
    return this.isOutOfReach || this.status === 429 || this.status === 503;
  }

  /** True if no service has answered: the connection was lost, or a proxy has no backend. */
  get isOutOfReach() {
    return this.status === 0 || this.status === 502;
  }
}

/** Sends "key" when the user has entered a key. */
export class Api extends EventTarget {
  #askForKey;
  #asking = null;
  #declined = false; // until the user opens the dialog

  /** @param askForKey called with the reason; returns the key that the user enters, or null. */
  constructor(askForKey) {
    super();
    this.#askForKey = askForKey;
  }

  get key() {
    return remembered(KEY) ?? "";
  }

  /** Returns the URL of a path of the API, below the prefix of the page. */
  address(path, query = {}) {
    const url = new URL(path, document.baseURI);
    for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
    return url.href;
  }

  /** Fetches a path; throws a Problem for an error. */
  async fetch(path, options = {}) {
    return this.#withKey(async (headers) => {
      const answer = await fetch(this.address(path), { ...options, headers }).catch(outOfReach);
      if (!answer.ok) throw problemOf(answer.status, await answer.text(), (name) => answer.headers.get(name));
      return answer;
    });
  }

  async json(path, options) {
    return (await this.fetch(path, options)).json();
  }

  /**
   * Sends a picture; returns {body, header}: the body of the answer as a Blob, and its headers as a function.
   *
   * Uses XMLHttpRequest, because fetch does not report the progress of an upload.
   *
   * @param untilSent true to ignore the signal once all bytes are sent, because the service then acts on them.
   */
  async send(path, { query, file, name, headers = {}, signal, untilSent = false, onSent = () => {} }) {
    return this.#withKey(
      (withKey) =>
        new Promise((resolve, reject) => {
          const request = new XMLHttpRequest();
          request.open("POST", this.address(path, query));
          request.responseType = "blob";
          for (const pair of Object.entries({ ...headers, ...withKey })) request.setRequestHeader(...pair);
          request.upload.onprogress = (event) => onSent(event.loaded / event.total);
          request.onload = async () => {
            const header = (name) => request.getResponseHeader(name);
            if (request.status < 400) return resolve({ body: request.response, header });
            reject(problemOf(request.status, await request.response.text(), header));
          };
          request.onerror = () => reject(new Problem({ title: text("problem.offline") }));
          request.onabort = () => reject(signal.reason);
          signal?.throwIfAborted();
          const stop = () => request.abort();
          signal?.addEventListener("abort", stop);
          if (untilSent) request.upload.onload = () => signal.removeEventListener("abort", stop);
          const form = new FormData();
          form.append("image", file, name);
          request.send(form);
        }),
    );
  }

  /** Makes an attempt with the key; while keys are refused, asks for another one, until the user enters none. */
  async #withKey(attempt) {
    for (;;) {
      const key = this.key;
      try {
        return await attempt(key ? { Authorization: `Bearer ${key}` } : {});
      } catch (problem) {
        if (problem.status !== 401) throw problem;
        if (key !== this.key) continue; // another request has got a new key meanwhile
        if (this.#declined || !(await this.#newKey(key ? problem.detail : ""))) {
          this.#declined = true;
          throw problem;
        }
      }
    }
  }

  /** Asks once for all requests that wait for a key. */
  async #newKey(reason) {
    this.#asking ??= this.#ask(reason).finally(() => (this.#asking = null));
    return this.#asking;
  }

  async #ask(reason) {
    const key = await this.#askForKey(reason);
    if (!key) return null;
    remember(KEY, key);
    this.#declined = false;
    this.dispatchEvent(new Event("key"));
    return key;
  }

  async changeKey() {
    return this.#newKey("");
  }
}

/** Throws the Problem of a broken connection. */
export function outOfReach(error) {
  if (error.name === "AbortError") throw error;
  throw new Problem({ title: text("problem.offline") });
}

function problemOf(status, body, header) {
  const retryAfterS = Number(header("Retry-After")) || 0;
  try {
    return new Problem({ ...JSON.parse(body), status, retryAfterS });
  } catch {
    const title = textOr(`problem.${status}`, `HTTP ${status}`); // a proxy's own page
    return new Problem({ status, title, retryAfterS });
  }
}
