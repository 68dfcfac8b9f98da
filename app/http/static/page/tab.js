// A duplicated tab begins with a copy of the other's memory. The list stays with the tab that was there first.

import { randomId } from "./pictures.js";
import { remember, remembered } from "./storage.js";

const LIST = "esrgan-list";

/** Calls `leave` where another open tab has the list of this one. */
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
