// Stores strings while the tab is open; in memory if the browser blocks its storage, or has no room.

const inMemory = new Map();

/** Returns a text, or null. */
export function remembered(name) {
  try {
    return inMemory.get(name) ?? sessionStorage.getItem(name);
  } catch {
    return null;
  }
}

export function remember(name, value) {
  try {
    sessionStorage.setItem(name, value);
    inMemory.delete(name);
  } catch {
    inMemory.set(name, value);
  }
}
