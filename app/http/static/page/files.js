// Stores the page's files in the browser's database for up to a day, so that a reload does not lose them.

const DAY_MS = 86_400_000;
const STORE = "files";
const inMemory = new Map(); // until they are in the database, or if there is none, as in some private windows

const opened = new Promise((resolve, reject) => {
  const request = indexedDB.open("esrgan", 1); // fails if the browser blocks storage
  request.onupgradeneeded = () => request.result.createObjectStore(STORE);
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});
opened.catch(() => {}); // each use fails instead

export async function keep(id, file) {
  inMemory.set(id, file);
  const put = ask("readwrite", (store) => store.put({ file, since: Date.now() }, id));
  await put.then(() => inMemory.delete(id), () => {}); // the copy in the database stays as it is when the file changes
}

/** Returns false for a file that a reload would lose. */
export function isKept(id) {
  return !inMemory.has(id);
}

/** Returns the file, or null if it was not kept. */
export async function find(id) {
  return inMemory.get(id) ?? (await ask("readonly", (store) => store.get(id)).catch(() => null))?.file ?? null;
}

/** Returns false for a folder, and for a file that was changed or removed since it was chosen. */
export async function isReadable(file) {
  const reader = file.stream().getReader();
  const isRead = await reader.read().then(() => true, () => false);
  reader.cancel().catch(() => {});
  return isRead;
}

export async function forget(id) {
  inMemory.delete(id);
  await ask("readwrite", (store) => store.delete(id)).catch(() => {});
}

/** Removes files of closed pages. */
export async function forgetOld() {
  const removeOld = (store) => {
    const cursor = store.openCursor();
    cursor.onsuccess = () => {
      const entry = cursor.result;
      if (!entry) return;
      if (entry.value.since < Date.now() - DAY_MS) entry.delete();
      entry.continue();
    };
    return cursor;
  };
  await ask("readwrite", removeOld).catch(() => {});
}

async function ask(mode, question) {
  const database = await opened;
  return new Promise((resolve, reject) => {
    const transaction = database.transaction(STORE, mode);
    const request = question(transaction.objectStore(STORE));
    transaction.oncomplete = () => resolve(request.result);
    transaction.onabort = () => reject(transaction.error);
  });
}
