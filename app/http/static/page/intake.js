// Receives pictures that are dropped anywhere, pasted, or chosen.

import { byId, show } from "./elements.js";

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
    take([...event.dataTransfer.files]);
  });
}
