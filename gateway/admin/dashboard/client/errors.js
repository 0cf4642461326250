// What a call or a connection fails with.

const NAMES = {
  0x001: "INVALID_SETUP",
  0x002: "UNSUPPORTED_SETUP",
  0x003: "REJECTED_SETUP",
  0x004: "REJECTED_RESUME",
  0x101: "CONNECTION_ERROR",
  0x102: "CONNECTION_CLOSE",
  0x201: "APPLICATION_ERROR",
  0x202: "REJECTED",
  0x203: "CANCELED",
  0x204: "INVALID",
};

export const APPLICATION_ERROR = 0x201;
export const REJECTED = 0x202;
export const CANCELED = 0x203;
export const INVALID = 0x204;
export const REJECTED_SETUP = 0x003;
export const REJECTED_RESUME = 0x004;
export const CONNECTION_ERROR = 0x101;
export const CONNECTION_CLOSE = 0x102;

/**
 * `code`: RSocket's, or 0 where nothing came over the wire; then `name` is one of
 * UNREACHABLE (never sent), TIMEOUT, LOST (the connection ended under it), CLOSED (by this side), MALFORMED.
 * `text`: a reason for a person. `retryable`: nobody has processed it, so it may be asked again.
 * A handler throws one with a code of its own, 0x301 and above, to answer with it.
 */
export class GatewayError extends Error {
  constructor(code, text = "", name = "") {
    const called = name || NAMES[code] || (code >= 0x301 ? "APPLICATION_CODE" : "UNKNOWN_CODE");
    super(text ? `${called}: ${text}` : called);
    this.name = called;
    this.code = code;
    this.text = text;
    this.retryable = code === REJECTED || called === "UNREACHABLE";
  }
}

export const unreachable = (text) => new GatewayError(0, text, "UNREACHABLE");
export const timeout = (text) => new GatewayError(0, text, "TIMEOUT");
export const lost = (text) => new GatewayError(0, text, "LOST");
export const closed = (text) => new GatewayError(0, text, "CLOSED");
export const malformed = (text) => new GatewayError(0, text, "MALFORMED");
