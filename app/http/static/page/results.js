// The files of finished runs: fetched once, then shown, saved or copied.

import { outOfReach, Problem } from "./api.js";
import { find } from "./files.js";
import { isInPixels, sizeText } from "./sizes.js";
import { text } from "./texts.js";

const MAX_STEM_BYTES = 200; // most file systems take names of 255 bytes
const KEPT = 4; // browsers keep large files on the disk, and small ones in memory

export class Results {
  #api;
  #pictures;
  #fetched = new Map();

  constructor(api, pictures) {
    this.#api = api;
    this.#pictures = pictures;
  }

  /** Returns the result as a file; a second call for a recent run fetches nothing. */
  async fileOf(run) {
    const fetched = this.#fetched.get(run.id) ?? this.#fetch(run);
    this.#fetched.delete(run.id);
    this.#fetched.set(run.id, fetched); // the newest is last
    if (this.#fetched.size > KEPT) this.#fetched.delete(this.#fetched.keys().next().value);
    fetched.catch(() => this.#fetched.delete(run.id));
    return fetched;
  }

  async #fetch(run) {
    return run.job ? (await this.#answerTo(run)).blob().catch(outOfReach) : this.#keptOf(run);
  }

  /** Fetches a result from the service. If the result is gone, the run fails, and can be retried. */
  async #answerTo(run) {
    try {
      return await this.#api.fetch(`v1/jobs/${run.job}/result`);
    } catch (problem) {
      if (problem.status === 404) this.#pictures.fail(run, problem);
      throw problem;
    }
  }

  /** Finds the result of a service without jobs. */
  async #keptOf(run) {
    const file = await find(run.id);
    if (file) return file;
    const problem = new Problem({ status: 404, title: text("picture.lost_result") });
    this.#pictures.fail(run, problem);
    throw problem;
  }

  /**
   * Saves a result: from memory if it was shown, else as a stream.
   *
   * @param asks false if the browser allows no dialog, as for the second file after a click.
   */
  async save(run, name, { asks = true } = {}) {
    const isFetched = this.#fetched.has(run.id) || !run.job;
    if (!isFetched && !this.#api.key) return saveAs(this.#api.address(`v1/jobs/${run.job}/result`), name);
    if (isFetched || !asks || !window.showSaveFilePicker) {
      return saveAs(URL.createObjectURL(await (isFetched ? this.fileOf(run) : this.#fetch(run))), name);
    }
    const file = await window.showSaveFilePicker({ suggestedName: name });
    const answer = await this.#answerTo(run); // a link cannot send the key
    return answer.body.pipeTo(await file.createWritable()).catch(outOfReach);
  }
}

export function saveAs(address, name) {
  const link = Object.assign(document.createElement("a"), { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  if (address.startsWith("blob:")) setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

/** Returns photo_x4.png for photo.jpg, photo_3840x2160.png for a size in pixels, photo_upscaled.png for an unknown one. */
export function nameOfResult(picture, run, size, factor) {
  const stem = cut(picture.name.replace(/\.[^.]*$/, "")) || "picture";
  const suffix = (run.mediaType ?? "image/png").replace("image/", "").replace("jpeg", "jpg");
  if (!factor) return `${stem}_upscaled.${suffix}`;
  const tail = isInPixels(run.settings) ? sizeText(size).replaceAll(" × ", "x") : `x${Number(factor.toFixed(2))}`;
  return `${stem}_${tail}.${suffix}`;
}

/** Cuts a name to the bytes that leave room for a size and a suffix in a file name. */
function cut(stem) {
  const bytes = new TextEncoder().encode(stem).slice(0, MAX_STEM_BYTES);
  return new TextDecoder().decode(bytes).replace(/\uFFFD+$/, ""); // part of a character
}

/** Returns the curl command for a picture with some settings. */
export function curlLine(address, picture, settings, output, needsKey) {
  const fields = [`image=@${fileName(picture.name)}`, ...Object.entries(settings).map(([name, value]) => `${name}=${value}`)];
  const key = needsKey ? ['-H "Authorization: Bearer $ESRGAN_KEY"'] : [];
  return ["curl", ...key, ...fields.map((field) => `-F ${quoted(field)}`), quoted(address), "-o", quoted(output)].join(" ");
}

/** Returns a name for a form of curl, in quotes if it has characters that would end it. */
function fileName(name) {
  return /[,;"\\]/.test(name) ? `"${name.replaceAll(/["\\]/g, "\\$&")}"` : name;
}

function quoted(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
