// Asks for an API key.

import { byId, show } from "./elements.js";
import { text } from "./texts.js";

const KEY = /^[\x21-\x7e]+$/; // characters that a header may have

/** Returns the key that the user enters, or null. */
export function askForKey(reason) {
  const dialog = byId("key-dialog");
  const input = byId("key");
  say(reason);
  input.value = "";
  show(byId("change-key"), true);
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.onclose = () => resolve(dialog.returnValue === "given" ? input.value.trim() : null);
  });
}

/** Closes the dialog without submitting a form, which the policy of the page forbids. */
export function prepareKeyDialog() {
  const dialog = byId("key-dialog");
  dialog.querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (KEY.test(byId("key").value.trim())) dialog.close("given");
    else say(text("key.letters"));
  });
  byId("key-cancel").onclick = () => dialog.close();
}

function say(reason) {
  byId("key-reason").textContent = reason;
  show(byId("key-reason"), reason !== "");
}
