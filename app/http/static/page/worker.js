// Decodes, resizes and crops a file in a worker, so that the page is not blocked.

import { enlarge } from "./bicubic.js";

const WORK = { reduced, cut, shrunk, enlarged, cropped };

onmessage = async ({ data: { work, file, ...rectangle } }) => {
  const bitmap = await WORK[work](file, rectangle).catch(() => null); // out of memory, or a damaged file
  postMessage(bitmap, bitmap ? [bitmap] : []);
};

function reduced(file, { width, height }) {
  return createImageBitmap(file, { resizeWidth: width, resizeHeight: height, resizeQuality: "high" });
}

function cut(file, { x, y, width, height }) {
  return createImageBitmap(file, x, y, width, height);
}

// Uploads, unlike results, may have to be turned (EXIF). Chromium forgets this in a bitmap that is cut or passed on.

async function shrunk(file, size) {
  return drawn(await reduced(file, size), size).canvas.transferToImageBitmap();
}

async function cropped(file, rectangle) {
  return drawn(await createImageBitmap(file), rectangle).canvas.transferToImageBitmap();
}

async function enlarged(file, { width, height }) {
  const bitmap = await createImageBitmap(file);
  const pixels = drawn(bitmap, bitmap).getImageData(0, 0, bitmap.width, bitmap.height);
  return createImageBitmap(enlarge(pixels, width, height));
}

function drawn(bitmap, { x = 0, y = 0, width, height }) {
  const context = new OffscreenCanvas(width, height).getContext("2d");
  context.drawImage(bitmap, -x, -y);
  return context;
}
