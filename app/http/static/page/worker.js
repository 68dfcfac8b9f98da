// Decodes, resizes and crops a file in a worker, so that the page is not blocked.

import { enlarge } from "./bicubic.js";

const WORK = { reduced, enlarged, cut };

onmessage = async ({ data: { work, file, ...rectangle } }) => {
  const bitmap = await WORK[work](file, rectangle).catch(() => null); // out of memory, or a damaged file
  postMessage(bitmap, bitmap ? [bitmap] : []);
};

function reduced(file, { width, height }) {
  return createImageBitmap(file, { resizeWidth: width, resizeHeight: height, resizeQuality: "high" });
}

async function enlarged(file, { width, height }) {
  const bitmap = await createImageBitmap(file);
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
  context.drawImage(bitmap, 0, 0);
  return createImageBitmap(enlarge(context.getImageData(0, 0, bitmap.width, bitmap.height), width, height));
}

function cut(file, { x, y, width, height }) {
  return createImageBitmap(file, x, y, width, height);
}
