// Files of this page in the browser's database, so that a reload loses nothing. Kept for a day at most.

const DAY_MS = 86_400_000;
const STORE = "files";
const inMemory = new Map(); // where the browser has no database, as in some private windows

const opened = new Promise((resolve) => {
  const request = indexedDB.open("esrgan", 1);
  request.onupgradeneeded = () => request.result.createObjectStore(STORE);
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => resolve(null);
});

export async function keep(id, file) {
  inMemory.set(id, file);
  await ask("readwrite", (store) => store.put({ file, since: Date.now() }, id)).catch(() => {}); // no room there
}

/** Returns the file, or null where it was not kept. */
export async function find(id) {
  return inMemory.get(id) ?? (await ask("readonly", (store) => store.get(id)).catch(() => null))?.file ?? null;
}

export async function forget(id) {
  inMemory.delete(id);
  await ask("readwrite", (store) => store.delete(id)).catch(() => {});
}

/** Removes what pages have left that were closed. */
export async function forgetOld() {
  const database = await opened;
  const cursor = database?.transaction(STORE, "readwrite").objectStore(STORE).openCursor();
  if (!cursor) return;
  cursor.onsuccess = () => {
    const entry = cursor.result;
    if (!entry) return;
    if (entry.value.since < Date.now() - DAY_MS) entry.delete();
    entry.continue();
  };
}

async function ask(mode, question) {
  const database = await opened;
  if (!database) return null;
  return new Promise((resolve, reject) => {
    const transaction = database.transaction(STORE, mode);
    const request = question(transaction.objectStore(STORE));
    transaction.oncomplete = () => resolve(request.result);
    transaction.onabort = () => reject(transaction.error);
  });
}
