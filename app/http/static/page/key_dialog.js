// Asks for an API key.

import { byId, show } from "./elements.js";

/** Returns the key that the person enters, or null. */
export function askForKey(reason) {
  const dialog = byId("key-dialog");
  const input = byId("key");
  byId("key-reason").textContent = reason;
  show(byId("key-reason"), Boolean(reason));
  input.value = "";
  show(byId("change-key"), true);
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.onclose = () => resolve(dialog.returnValue === "given" ? input.value.trim() : null);
  });
}

/** Lets the dialog close without sending a form, which the policy of the page forbids. */
export function prepareKeyDialog() {
  const dialog = byId("key-dialog");
  dialog.querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    dialog.close("given");
  });
  byId("key-cancel").onclick = () => dialog.close();
}
