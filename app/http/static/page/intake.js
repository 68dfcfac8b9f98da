// Receives pictures that are dropped anywhere, pasted, or chosen.

import { byId, show } from "./elements.js";
import { text } from "./texts.js";

const PICTURE = /^[^.].*\.(jpe?g|a?png|webp|tiff?|bmp|gif|avif|hei[cf]|jxl)$/i; // folders have other files too

/** Calls `take` with files of any kind: the service checks which of them are pictures. */
export function takeFiles(take) {
  const chooser = byId("chooser");
  for (const button of document.querySelectorAll(".choose")) button.onclick = () => chooser.click();
  chooser.onchange = () => {
    take([...chooser.files]);
    chooser.value = ""; // so that the same file can be chosen again
  };
  addEventListener("paste", (event) => event.clipboardData.files.length && take([...event.clipboardData.files]));
  takeDrops(take);
}

function takeDrops(take) {
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  const target = byId("drop-target");
  addEventListener("dragenter", (event) => hasFiles(event) && show(target, true));
  addEventListener("dragleave", (event) => !event.relatedTarget && show(target, false));
  addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    show(target, false);
    if (!hasFiles(event)) return;
    event.preventDefault();
    takeDropped(event.dataTransfer, take);
  });
}

/** Takes the dropped files, and the pictures in dropped folders. */
async function takeDropped({ items, files }, take) {
  const dropped = [...files];
  const entries = [...items].filter((item) => item.kind === "file").map((item) => item.webkitGetAsEntry?.());
  if (!entries.some((entry) => entry?.isDirectory)) return take(dropped);
  const found = entries.map((entry, index) => (entry?.isDirectory ? picturesIn(entry) : dropped[index]));
  const pictures = (await Promise.all(found)).flat();
  if (pictures.length) take(pictures);
  else alert(text("drop.none"));
}

async function picturesIn(folder) {
  const reader = folder.createReader();
  const entries = [];
  for (let some = [null]; some.length; ) {
    some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // a hundred at a time
    entries.push(...some);
  }
  const inOrder = (a, b) => a.name.localeCompare(b.name, undefined, { numeric: true });
  const wanted = entries.filter((entry) => entry.isDirectory || PICTURE.test(entry.name)).sort(inOrder);
  const found = wanted.map((entry) =>
    entry.isDirectory ? picturesIn(entry) : new Promise((resolve, reject) => entry.file(resolve, reject)),
  );
  return (await Promise.all(found)).flat();
}
