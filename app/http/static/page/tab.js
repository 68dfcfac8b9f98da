// A duplicated tab starts with a copy of the session storage. The list stays with the first tab.

import { randomId } from "./pictures.js";
import { remember, remembered } from "./storage.js";

const LIST = "esrgan-list";

/** Calls `leave` if another open tab has the same list. */
export function keepToOneTab(leave) {
  let list = remembered(LIST) ?? randomId();
  remember(LIST, list);
  const channel = new BroadcastChannel("esrgan");
  channel.onmessage = ({ data }) => {
    if (data.list !== list) return;
    if (data.asks) return channel.postMessage({ list, asks: false });
    list = randomId();
    remember(LIST, list);
    leave();
  };
  channel.postMessage({ list, asks: true });
}
