// The files of finished runs: fetched once, shown, saved, copied.

import { find } from "./files.js";
import { sizeText } from "./sizes.js";

const KEPT = 4; // a browser keeps large files on its disk, and small ones in memory

export class Results {
  #api;
  #fetched = new Map();

  constructor(api) {
    this.#api = api;
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
    return run.job ? (await this.#api.fetch(`v1/jobs/${run.job}/result`)).blob() : find(run.id);
  }

  /** Saves a result: from memory where it was shown, else as a stream that never is in memory as a whole. */
  async save(run, name) {
    if (this.#fetched.has(run.id) || !run.job) return saveAs(URL.createObjectURL(await this.fileOf(run)), name);
    if (!this.#api.key) return saveAs(this.#api.address(`v1/jobs/${run.job}/result`), name);
    if (!window.showSaveFilePicker) return saveAs(URL.createObjectURL(await this.#fetch(run)), name);
    const file = await window.showSaveFilePicker({ suggestedName: name });
    const answer = await this.#api.fetch(`v1/jobs/${run.job}/result`); // a link cannot send the key
    return answer.body.pipeTo(await file.createWritable());
  }
}

export function saveAs(address, name) {
  const link = Object.assign(document.createElement("a"), { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  if (address.startsWith("blob:")) setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

/** Returns photo_x4.png for photo.jpg, or photo_3840x2160.png where the size was given in pixels. */
export function nameOfResult(picture, run, size, factor) {
  const stem = picture.name.replace(/\.[^.]*$/, "") || "picture";
  const suffix = (run.mediaType ?? "image/png").replace("image/", "").replace("jpeg", "jpg");
  const inPixels = ["width", "height", "max_side", "megapixels"].some((name) => name in run.settings);
  const tail = inPixels && size ? sizeText(size).replaceAll(" × ", "x") : `x${Number((factor ?? 4).toFixed(2))}`;
  return `${stem}_${tail}.${suffix}`;
}

/** Returns the line that does the same in a terminal. */
export function curlLine(address, picture, settings, output, needsKey) {
  const fields = [`image=@${fileName(picture.name)}`, ...Object.entries(settings).map(([name, value]) => `${name}=${value}`)];
  const key = needsKey ? ['-H "Authorization: Bearer $ESRGAN_KEY"'] : [];
  return ["curl", ...key, ...fields.map((field) => `-F ${quoted(field)}`), quoted(address), "-o", quoted(output)].join(" ");
}

/** Returns a name as curl reads it in a form: quoted where it has letters that end a name. */
function fileName(name) {
  return /[,;"\\]/.test(name) ? `"${name.replaceAll(/["\\]/g, "\\$&")}"` : name;
}

function quoted(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
