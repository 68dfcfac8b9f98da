// The view of a picture in its window: {zoom, x, y}, screen pixels per pixel of the picture, and its corner.

export const MAX_ZOOM = 16;

/** Returns the view that shows the whole picture, with at most one screen pixel per pixel of the picture. */
export function fitted(stage, picture, ratio) {
  const zoom = Math.min(stage.width / picture.width, stage.height / picture.height, MAX_ZOOM / ratio);
  return centred(stage, picture, zoom);
}

export function centred(stage, picture, zoom) {
  return { zoom, x: (stage.width - picture.width * zoom) / 2, y: (stage.height - picture.height * zoom) / 2 };
}

/** Returns a view with another zoom, around a point of the window. */
export function zoomedAt(view, zoom, { x, y }) {
  const change = zoom / view.zoom;
  return { zoom, x: x - (x - view.x) * change, y: y - (y - view.y) * change };
}

/** Limits the zoom, and keeps the picture in the window: centred if smaller, without a gap if larger. */
export function limited(view, stage, picture, ratio) {
  const least = Math.min(fitted(stage, picture, ratio).zoom, 1 / ratio);
  const zoom = Math.min(MAX_ZOOM / ratio, Math.max(least, view.zoom));
  const kept = zoom === view.zoom ? view : zoomedAt(view, zoom, { x: stage.width / 2, y: stage.height / 2 });
  return {
    zoom,
    x: within(kept.x, stage.width, picture.width * zoom),
    y: within(kept.y, stage.height, picture.height * zoom),
  };
}

function within(corner, room, length) {
  return length <= room ? (room - length) / 2 : Math.min(0, Math.max(room - length, corner));
}

/** Returns the point of the picture at a point of the window. */
export function picturePoint(view, { x, y }) {
  return { x: (x - view.x) / view.zoom, y: (y - view.y) / view.zoom };
}
