// Files to pictures that the page can show, decoded and resized away from the page's own thread.

export const SHOWN_PX = 24e6; // shown with every pixel
export const REDUCED_PX = 200e6; // shown as a smaller copy; beyond it, only downloaded
const COPY_PX = 8e6;

/** Returns the picture of a file, or null where the browser cannot read it. */
export async function imageOf(file) {
  const image = new Image();
  image.src = URL.createObjectURL(file);
  image.alt = "";
  image.draggable = false;
  const loaded = new Promise((resolve) => {
    image.onload = () => resolve(image);
    image.onerror = () => resolve(null);
  });
  return loaded;
}

export function release(element) {
  if (element instanceof HTMLImageElement) URL.revokeObjectURL(element.src);
}

/** Returns {element, width, height, share} of a result; the element is a smaller copy of a large one, or null. */
export async function resultOf(file) {
  const image = await imageOf(file);
  if (!image) return null;
  const { naturalWidth: width, naturalHeight: height } = image;
  const px = width * height;
  if (px <= SHOWN_PX) {
    await image.decode().catch(() => {}); // before it is shown, so that the page does not wait for it
    return { element: image, width, height, share: 1 };
  }
  release(image);
  if (px > REDUCED_PX) return { element: null, width, height, share: 0 };
  const share = Math.sqrt(COPY_PX / px);
  const element = await resized(file, Math.round(width * share), Math.round(height * share));
  return { element, width, height, share };
}

/** Returns a small canvas for the list, or null. */
export async function thumbnailOf(file, image, side) {
  const share = Math.min(1, side / Math.min(image.naturalWidth, image.naturalHeight));
  const size = [image.naturalWidth, image.naturalHeight].map((length) => Math.max(1, Math.round(length * share)));
  return resized(file, ...size).catch(() => null);
}

async function resized(file, width, height) {
  const options = { resizeWidth: width, resizeHeight: height, resizeQuality: "high" };
  return canvasOf(await createImageBitmap(file, options));
}

export function canvasOf(bitmap) {
  const canvas = Object.assign(document.createElement("canvas"), { width: bitmap.width, height: bitmap.height });
  canvas.getContext("bitmaprenderer").transferFromImageBitmap(bitmap);
  return canvas;
}

/** Returns a canvas with the picture enlarged by bicubic interpolation. */
export async function bicubicOf(file, width, height) {
  const bitmap = await createImageBitmap(file);
  if (width <= bitmap.width || height <= bitmap.height) return resized(file, width, height);
  const worker = new Worker(new URL("./bicubic.js", import.meta.url), { type: "module" });
  try {
    return await new Promise((resolve, reject) => {
      worker.onmessage = ({ data }) => resolve(canvasOf(data));
      worker.onerror = reject;
      worker.postMessage({ bitmap, width, height }, [bitmap]);
    });
  } finally {
    worker.terminate();
  }
}

/** Returns a part of a picture as a PNG file. */
export async function cropOf(file, { x, y, width, height }) {
  const bitmap = await createImageBitmap(file, x, y, width, height);
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}
