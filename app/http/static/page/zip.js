// Makes a zip file of compressed files, stored with method 0 (APPNOTE.TXT 6.3.10).

/** Limit without ZIP64 on a file, and on the archive. */
export const MAX_BYTES = 2 ** 32 - 1;

/** Returns a zip file as a Blob. The browser keeps large files on the disk, and never loads them as a whole. */
export async function zipOf(files) {
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const { name, blob } of files) {
    const entry = { name: new TextEncoder().encode(name), bytes: blob.size, crc: await crcOf(blob), offset };
    parts.push(localHeader(entry), blob);
    directory.push(centralHeader(entry));
    offset += 30 + entry.name.length + blob.size;
  }
  const bytes = directory.reduce((sum, header) => sum + header.length, 0);
  return new Blob([...parts, ...directory, ending(files.length, bytes, offset)], { type: "application/zip" });
}

/** Returns the CRC-32 of a file. */
export async function crcOf(blob) {
  let crc = ~0;
  const reader = blob.stream().getReader();
  for (let read = await reader.read(); !read.done; read = await reader.read()) {
    for (const byte of read.value) crc = TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  }
  return ~crc >>> 0;
}

const TABLE = Int32Array.from({ length: 256 }, (_, value) => {
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

const UTF8_NAMES = 0x800;
const MIDNIGHT_1980 = 0x210000;

function localHeader({ name, bytes, crc }) {
  return record([0x04034b50, 4], [20, 2], [UTF8_NAMES, 2], [0, 2], [MIDNIGHT_1980, 4], [crc, 4], [bytes, 4], [bytes, 4],
    [name.length, 2], [0, 2], name);
}

function centralHeader({ name, bytes, crc, offset }) {
  return record([0x02014b50, 4], [20, 2], [20, 2], [UTF8_NAMES, 2], [0, 2], [MIDNIGHT_1980, 4], [crc, 4], [bytes, 4],
    [bytes, 4], [name.length, 2], [0, 2], [0, 2], [0, 2], [0, 2], [0, 4], [offset, 4], name);
}

function ending(count, bytes, offset) {
  return record([0x06054b50, 4], [0, 2], [0, 2], [count, 2], [count, 2], [bytes, 4], [offset, 4], [0, 2]);
}

/** Joins [number, bytes] pairs, low byte first, and arrays. */
function record(...fields) {
  return Uint8Array.from(
    fields.flatMap((field) =>
      field instanceof Uint8Array ? [...field] : Array.from({ length: field[1] }, (_, byte) => (field[0] >>> (8 * byte)) & 255),
    ),
  );
}
