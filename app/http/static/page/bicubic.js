// Bicubic interpolation (Keys 1981, a = -0.5), for the "before" of a comparison: browsers use other filters.

const A = -0.5;

/** Returns the weight of a sample at a distance. */
export function kernel(distance) {
  const x = Math.abs(distance);
  if (x < 1) return ((A + 2) * x - (A + 3)) * x * x + 1;
  return x < 2 ? ((x - 5) * x + 8) * x * A - 4 * A : 0;
}

/** Returns index and weight of the four samples for each position along a side; border samples are repeated. */
export function tapsOf(from, to) {
  return Array.from({ length: to }, (_, at) => {
    const centre = ((at + 0.5) * from) / to - 0.5;
    const first = Math.floor(centre) - 1;
    return [0, 1, 2, 3].map((tap) => ({
      index: Math.min(from - 1, Math.max(0, first + tap)),
      weight: kernel(centre - first - tap),
    }));
  });
}

/** Enlarges RGBA pixels, weighted by their alpha so that hidden colours do not bleed into edges. */
export function enlarge({ data, width, height }, toWidth, toHeight) {
  const columns = tapsOf(width, toWidth);
  const rows = tapsOf(height, toHeight);
  const result = new ImageData(toWidth, toHeight);
  const wide = new Map();
  for (let y = 0; y < toHeight; y++) {
    const taps = rows[y];
    for (const index of wide.keys()) if (index < taps[0].index) wide.delete(index);
    for (const { index } of taps) if (!wide.has(index)) wide.set(index, widened(data, width, index, columns));
    mix(taps.map(({ index, weight }) => [wide.get(index), weight]), result.data, y * toWidth * 4);
  }
  return result;
}

/** Returns one row, enlarged and multiplied by alpha. */
function widened(data, width, row, columns) {
  const start = row * width * 4;
  const wide = new Float32Array(columns.length * 4);
  for (let x = 0; x < columns.length; x++) {
    let red = 0, green = 0, blue = 0, alpha = 0;
    for (const { index, weight } of columns[x]) {
      const at = start + index * 4;
      const share = (weight * data[at + 3]) / 255;
      red += share * data[at];
      green += share * data[at + 1];
      blue += share * data[at + 2];
      alpha += share;
    }
    wide.set([red, green, blue, alpha], x * 4);
  }
  return wide;
}

/** Writes the sum of four weighted rows. */
function mix([[a, p], [b, q], [c, r], [d, s]], into, offset) {
  for (let at = 0; at < a.length; at += 4) {
    const alpha = p * a[at + 3] + q * b[at + 3] + r * c[at + 3] + s * d[at + 3];
    for (let channel = 0; channel < 3; channel++) {
      const i = at + channel;
      into[offset + i] = (p * a[i] + q * b[i] + r * c[i] + s * d[i]) / (alpha || 1);
    }
    into[offset + at + 3] = alpha * 255;
  }
}
