// The size of an answer, as the service computes it.

const IN_PIXELS = ["width", "height", "max_side", "megapixels"];

/** Returns the {width, height} of the answer for a picture, or null if either is unknown. */
export function sizeOfAnswer(picture, settings, modelScale) {
  if (!picture.width) return null;
  const factor = factorOf(picture, settings, modelScale);
  if (!factor) return null;
  const size = { width: Math.round(picture.width * factor), height: Math.round(picture.height * factor) };
  if (settings.width) size.width = settings.width;
  if (settings.height) size.height = settings.height;
  return { width: Math.max(1, size.width), height: Math.max(1, size.height) };
}

/** True if the settings have a size in pixels, not a factor. */
export function isInPixels(settings) {
  return IN_PIXELS.some((name) => name in settings);
}

/** Returns the factor of the enlargement; null if it depends on an unknown size or scale. */
export function factorOf({ width, height }, settings, modelScale) {
  if (isInPixels(settings) && !width) return null;
  if (settings.width) return settings.width / width;
  if (settings.height) return settings.height / height;
  if (settings.max_side) return settings.max_side / Math.max(width, height);
  if (settings.megapixels) return Math.sqrt((settings.megapixels * 1e6) / (width * height));
  return settings.scale ?? modelScale;
}

export function sizeText({ width, height }) {
  return `${width} × ${height}`;
}
