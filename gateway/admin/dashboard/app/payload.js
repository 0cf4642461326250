// Data of a message as somebody writes it and reads it: text, JSON, base64, CBOR; bytes between.

/** How data can be written. */
export const FORMATS = ["text", "json", "base64", "cbor"];

const encoder = new TextEncoder();
const strict = new TextDecoder("utf-8", { fatal: true });

/** The CBOR library, loaded by whoever needs it first. */
let cbor = null;
export async function withCbor() {
  cbor ??= await import("../vendor/cbor.js");
  return cbor;
}

/** The bytes that `text` means in a format. Throws a SyntaxError that says what is wrong with it. */
export async function encoded(format, text) {
  if (format === "text" || text.trim() === "") return encoder.encode(format === "text" ? text : "");
  if (format === "base64") return fromBase64(text);
  const value = JSON.parse(text);
  return format === "json" ? encoder.encode(text) : (await withCbor()).encode(value);
}

/** What is wrong with a text in a format, or "". */
export function mistake(format, text) {
  try {
    if (format !== "text" && text.trim() !== "") {
      if (format === "base64") fromBase64(text);
      else JSON.parse(text);
    }
    return "";
  } catch (error) {
    return error.message;
  }
}

function fromBase64(text) {
  const plain = text.replace(/\s+/g, "").replaceAll("-", "+").replaceAll("_", "/");
  return Uint8Array.from(atob(plain), (character) => character.charCodeAt(0));
}

export function toBase64(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(text);
}

/** The text of bytes that are text, else null. */
export function textOf(bytes) {
  try {
    const text = strict.decode(bytes);
    return /[\u0000-\u0008\u000e-\u001f]/.test(text) ? null : text;
  } catch {
    return null;
  }
}

/** Bytes in words: `as` is "auto", "text", "hex", "base64" or "cbor". */
export function decoded(bytes, as = "auto") {
  if (!bytes.length) return "";
  if (as === "base64") return toBase64(bytes);
  if (as === "cbor" && cbor) {
    try {
      return JSON.stringify(cbor.decode(bytes), plain, 2);
    } catch (error) {
      return `${error.message}\n${hex(bytes)}`;
    }
  }
  const text = as === "hex" ? null : textOf(bytes);
  if (text === null) return hex(bytes);
  if (as === "auto" && /^\s*[[{]/.test(text)) {
    try {
      return JSON.stringify(JSON.parse(text), null, 2);
    } catch {
      return text;
    }
  }
  return text;
}

/** What JSON cannot write of what CBOR can hold. */
function plain(key, value) {
  if (typeof value === "bigint") return String(value);
  if (value instanceof Uint8Array) return hex(value);
  if (value instanceof Map) return Object.fromEntries(value);
  return value;
}

const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(" ");
