// Labels and lists as a person writes them in one field: `floor=1, room=7` and `telemetry.*, time`.

/** {floor: "1"} as text. */
export const pairsText = (pairs) => Object.entries(pairs).map(([key, value]) => (value === "" ? key : `${key}=${value}`)).join(", ");

/** Text as {floor: "1"}. */
export function pairs(text) {
  return Object.fromEntries(
    list(text).map((part) => {
      const equals = part.indexOf("=");
      return equals < 0 ? [part, ""] : [part.slice(0, equals).trim(), part.slice(equals + 1).trim()];
    }),
  );
}

/** Text as a list, at commas and ends of lines. */
export const list = (text) => text.split(/[,\n]/).map((part) => part.trim()).filter(Boolean);

export const listText = (values) => values.join(", ");
