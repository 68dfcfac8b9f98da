// Actions on results: download one or all, copy, show the curl command.

import { byId, show } from "./elements.js";
import { doneRuns } from "./pictures.js";
import { reasonOf } from "./problems.js";
import { curlLine, nameOfResult, saveAs } from "./results.js";
import { factorOf } from "./sizes.js";
import { text } from "./texts.js";
import { MAX_BYTES, zipOf } from "./zip.js";

const SAID_MS = 2000;

export function saveActions({ api, results, viewer, pictures, sizeOf, modelOf }) {
  const nameOf = (picture, run) => {
    const factor = factorOf(picture, run.settings, modelOf(run.settings).scale);
    return nameOfResult(picture, run, sizeOf(picture, run.settings), factor);
  };
  const line = () => {
    const { picture, run } = viewer;
    return curlLine(api.address("v1/upscale"), picture, run.settings, nameOf(picture, run), Boolean(api.key));
  };

  byId("save").onclick = async () => {
    const isReal = (error) => error.name !== "AbortError"; // the user closed the dialog
    const saved = results.save(viewer.run, nameOf(viewer.picture, viewer.run));
    await saved.catch((error) => isReal(error) && viewer.say(reasonOf(error)));
  };
  byId("copy").onclick = async () => {
    if (await copyPicture(results.fileOf(viewer.run))) say(byId("copy"), text("save.copied"));
    else viewer.say(text("save.no_copy"));
  };
  byId("save-all").onclick = () => saveAll(pictures, results, nameOf);
  byId("curl").onclick = () => {
    byId("curl-line").textContent = line();
    byId("curl-dialog").showModal();
  };
  byId("curl-close").onclick = () => byId("curl-dialog").close();
  byId("curl-copy").onclick = async () => {
    if (await copyText(byId("curl-line"))) say(byId("curl-copy"), text("save.copied"));
  };

  show(byId("copy"), "ClipboardItem" in window);
  viewer.addEventListener("result", () => {
    for (const id of ["save", "copy", "curl"]) byId(id).disabled = !viewer.run;
  });
}

/** Saves the newest result of every picture as one zip file, or one by one if that would be too large. */
async function saveAll(pictures, results, nameOf) {
  const button = byId("save-all");
  const chosen = pictures.all.filter((picture) => doneRuns(picture).length);
  const runs = chosen.map((picture) => doneRuns(picture).at(-1));
  const names = unique(chosen.map((picture, index) => nameOf(picture, runs[index])));
  button.disabled = true;
  const isZip = runs.reduce((sum, run) => sum + (run.bytes ?? 0), 0) <= MAX_BYTES / 2;
  const files = [];
  const missing = [];
  try {
    for (const [index, run] of runs.entries()) {
      const name = names[index];
      button.textContent = byId("said").textContent = text("list.packing", { done: index, total: runs.length });
      const saved = isZip
        ? results.fileOf(run).then((blob) => files.push({ name, blob }))
        : results.save(run, name, { asks: false });
      await saved.catch(() => missing.push(name));
    }
    if (files.length) saveAs(URL.createObjectURL(await zipOf(files)), "pictures.zip");
    if (missing.length) alert(text("list.missing", { names: missing.join(", ") }));
  } finally {
    button.disabled = false;
    button.textContent = text("list.save_all");
  }
}

/** Numbers duplicate names, ignoring case, as some systems do. */
export function unique(names) {
  const taken = new Set();
  return names.map((name) => {
    let free = name;
    for (let count = 2; taken.has(free.toLowerCase()); count++) free = name.replace(/(\.[^.]*)?$/, ` (${count})$1`);
    taken.add(free.toLowerCase());
    return free;
  });
}

/** Returns false if the browser does not allow it. */
async function copyPicture(file) {
  const item = new ClipboardItem({ "image/png": file.then(asPng) });
  return navigator.clipboard.write([item]).then(() => true, () => false);
}

/** Returns the file as PNG, the only format that clipboards support. */
async function asPng(file) {
  if (file.type === "image/png") return file;
  const bitmap = await createImageBitmap(file);
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  canvas.getContext("bitmaprenderer").transferFromImageBitmap(bitmap);
  return canvas.convertToBlob({ type: "image/png" });
}

/** Copies the text of an element; if the browser does not allow it, selects the text for the user to copy. */
async function copyText(shown) {
  getSelection().selectAllChildren(shown);
  return navigator.clipboard?.writeText(shown.textContent).then(() => true, () => false);
}

function say(button, words) {
  button.dataset.words ??= button.textContent; // a second click may come while the label of the first one is shown
  button.textContent = byId("said").textContent = words;
  setTimeout(() => (button.textContent = button.dataset.words), SAID_MS);
}
