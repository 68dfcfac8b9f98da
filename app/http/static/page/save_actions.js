// What can be done with results: download one or all, copy, the line for a terminal.

import { byId, show } from "./elements.js";
import { doneRuns } from "./pictures.js";
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

  byId("save").onclick = () => results.save(viewer.run, nameOf(viewer.picture, viewer.run));
  byId("copy").onclick = () => copyPicture(results.fileOf(viewer.run));
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

/** Saves the newest result of every picture as one zip file; where that would be too large, one by one. */
async function saveAll(pictures, results, nameOf) {
  const button = byId("save-all");
  const chosen = pictures.all.filter((picture) => doneRuns(picture).length);
  const runs = chosen.map((picture) => doneRuns(picture).at(-1));
  const names = unique(chosen.map((picture, index) => nameOf(picture, runs[index])));
  button.disabled = true;
  try {
    if (runs.reduce((sum, run) => sum + (run.bytes ?? 0), 0) > MAX_BYTES / 2) {
      for (const [index, run] of runs.entries()) await results.save(run, names[index]);
      return;
    }
    const files = [];
    const missing = [];
    for (const [index, run] of runs.entries()) {
      button.textContent = text("list.packing", { done: index, total: runs.length });
      const blob = await results.fileOf(run).catch(() => null);
      if (blob) files.push({ name: names[index], blob });
      else missing.push(names[index]);
    }
    if (files.length) saveAs(URL.createObjectURL(await zipOf(files)), "pictures.zip");
    if (missing.length) alert(text("list.missing", { names: missing.join(", ") }));
  } finally {
    button.disabled = false;
    button.textContent = text("list.save_all");
  }
}

/** Numbers the names that come twice. */
export function unique(names) {
  const seen = new Map();
  return names.map((name) => {
    const times = (seen.get(name) ?? 0) + 1;
    seen.set(name, times);
    return times === 1 ? name : name.replace(/(\.[^.]*)?$/, ` (${times})$1`);
  });
}

async function copyPicture(file) {
  const button = byId("copy");
  try {
    await navigator.clipboard.write([new ClipboardItem({ "image/png": file.then(asPng) })]);
    say(button, text("save.copied"));
  } catch {
    say(button, text("save.no_copy"));
  }
}

/** Returns the file as PNG, which is all that clipboards take. */
async function asPng(file) {
  if (file.type === "image/png") return file;
  const bitmap = await createImageBitmap(file);
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  canvas.getContext("bitmaprenderer").transferFromImageBitmap(bitmap);
  return canvas.convertToBlob({ type: "image/png" });
}

/** Copies the text of an element; where the browser does not let the page, selects it for the person to copy. */
async function copyText(shown) {
  getSelection().selectAllChildren(shown);
  return navigator.clipboard?.writeText(shown.textContent).then(() => true, () => false);
}

function say(button, words) {
  button.dataset.words ??= button.textContent; // a second click may come before the first one's words are gone
  button.textContent = words;
  setTimeout(() => (button.textContent = button.dataset.words), SAID_MS);
}
