// Decodes and resizes files for display, in a worker.

export const SHOWN_PX = 24e6; // maximum shown in full resolution
export const REDUCED_PX = 200e6; // maximum shown as a reduced copy; larger ones can only be downloaded
const COPY_PX = 8e6;

/** Returns the picture of a file, or null if the browser cannot read it. */
export async function imageOf(file) {
  const image = new Image();
  image.src = URL.createObjectURL(file);
  image.alt = "";
  image.draggable = false;
  const loaded = new Promise((resolve) => {
    image.onload = () => resolve(image);
    image.onerror = () => {
      release(image);
      resolve(null);
    };
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
  const share = Math.sqrt(COPY_PX / px);
  const size = { width: Math.round(width * share), height: Math.round(height * share) };
  const element = px > REDUCED_PX ? null : await canvasOf("reduced", file, size);
  return { element, width, height, share: element ? share : 0 };
}

/** Returns a thumbnail for the list as a canvas, or null. */
export async function thumbnailOf(file, image, side) {
  const share = Math.min(1, side / Math.min(image.naturalWidth, image.naturalHeight));
  const [width, height] = [image.naturalWidth, image.naturalHeight].map((it) => Math.max(1, Math.round(it * share)));
  return canvasOf("shrunk", file, { width, height });
}

/** Returns a canvas with the picture at the size of its result: enlarged by bicubic interpolation, or reduced. */
export async function bicubicOf(file, picture, { width, height }) {
  const enlarges = width > picture.width && height > picture.height;
  return canvasOf(enlarges ? "enlarged" : "shrunk", file, { width, height });
}

/** Returns a canvas with a part of a result. */
export async function partOf(file, rectangle) {
  return canvasOf("cut", file, rectangle);
}

/** Returns a part of an upload as a PNG file. */
export async function cropOf(file, rectangle) {
  const canvas = await canvasOf("cropped", file, rectangle);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

/** Returns the result of a worker for a file, as a canvas; null if it fails. */
async function canvasOf(work, file, rectangle) {
  const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  const bitmap = await new Promise((resolve) => {
    worker.onmessage = ({ data }) => resolve(data);
    worker.onerror = () => resolve(null);
    worker.postMessage({ work, file, ...rectangle });
  });
  worker.terminate();
  if (!bitmap) return null;
  const canvas = Object.assign(document.createElement("canvas"), { width: bitmap.width, height: bitmap.height });
  canvas.getContext("bitmaprenderer").transferFromImageBitmap(bitmap);
  return canvas;
}
