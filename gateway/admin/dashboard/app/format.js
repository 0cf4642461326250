// How figures and times are written. All of it is for people; nothing is parsed again.

const numbers = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
const fractions = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });
const moments = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const clocks = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const minutes = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });

export const NONE = "–";

/** A whole number with separators; a dash for what is not known. */
export const count = (value) => (value === null || value === undefined ? NONE : numbers.format(value));

/** Something per second: one digit behind the point below ten. */
export function rate(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return NONE;
  return `${value < 10 ? fractions.format(value) : numbers.format(value)}/s`;
}

/** Bytes in binary units. */
export function bytes(value) {
  if (value === null || value === undefined) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit && value < 100 ? fractions.format(value) : numbers.format(value)} ${units[unit]}`;
}

/** Seconds as the one or two units that matter: 35 ms, 4.2 s, 3 min 20 s, 2 h 5 min, 3 d 4 h. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return NONE;
  if (seconds < 0) return `-${duration(-seconds)}`;
  if (seconds < 0.001) return `${numbers.format(seconds * 1e6)} µs`;
  if (seconds < 1) return `${seconds < 0.01 ? fractions.format(seconds * 1e3) : numbers.format(seconds * 1e3)} ms`;
  if (seconds < 60) return `${seconds < 10 ? fractions.format(seconds) : numbers.format(seconds)} s`;
  const two = (large, largeUnit, small, smallUnit) => `${large} ${largeUnit}${small ? ` ${small} ${smallUnit}` : ""}`;
  const whole = Math.floor(seconds);
  if (whole < 3600) return two(Math.floor(whole / 60), "min", whole % 60, "s");
  if (whole < 86400) return two(Math.floor(whole / 3600), "h", Math.floor((whole % 3600) / 60), "min");
  return two(Math.floor(whole / 86400), "d", Math.floor((whole % 86400) / 3600), "h");
}

/** A time of the API (RFC 3339) in full, by this browser's clock and language. */
export const when = (time) => (time ? moments.format(new Date(time)) : NONE);

/** The time of day alone. */
export const clock = (time) => (time ? clocks.format(new Date(time)) : NONE);

/** The hour and minute alone, of Unix seconds: for the axis of a graph. */
export const minute = (seconds) => minutes.format(new Date(seconds * 1000));

/** How long ago a time of the API was: 4 s ago, in 3 min. */
export function ago(time, now = Date.now()) {
  if (!time) return NONE;
  const seconds = (now - new Date(time).getTime()) / 1000;
  const text = duration(Math.round(Math.abs(seconds)));
  if (Math.abs(seconds) < 1) return "now";
  return seconds > 0 ? `${text} ago` : `in ${text}`;
}
