// Texts by key. A page brings its own dictionary; another language would bring the same keys.

const texts = new Map();

/** Add a dictionary: {"devices.title": "Devices", …}. */
export function words(dictionary) {
  for (const [key, text] of Object.entries(dictionary)) texts.set(key, text);
}

/** The text of a key, with {name} replaced by values.name. {n|one|many} chooses by whether values.n is 1. */
export function t(key, values = {}) {
  const text = texts.get(key);
  if (text === undefined) {
    console.error(`no text for ${key}`);
    return key;
  }
  return text.replace(/\{(\w+)(?:\|([^|}]*)\|([^}]*))?\}/g, (whole, name, one, many) => {
    const value = values[name];
    if (one !== undefined) return Number(value) === 1 ? one : many;
    return value === undefined || value === null ? "" : String(value);
  });
}
