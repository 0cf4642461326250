// The next token in time, over the connection that there is: `gateway.renew`.

import { unreachable } from "./errors.js";
import { bytes } from "./frames.js";

const base64url = {
  decode: (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0)),
  encode: (raw) => btoa(String.fromCharCode(...raw)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", ""),
};

async function proof(secret, challenge) {
  if (!globalThis.crypto?.subtle) throw unreachable("a token that ran out is renewed over https: or on localhost alone");
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  const key = await crypto.subtle.importKey("raw", base64url.decode(secret), algorithm, false, ["sign"]);
  return base64url.encode(new Uint8Array(await crypto.subtle.sign("HMAC", key, bytes(`gateway-renew\n${challenge}`))));
}

/**
 * Ask for a token: {token, expires_in}. `ask(data)` is a request to `gateway.renew`. The first answer is a challenge
 * where the old token had run out; what proves is the `secret` that the device got when it enrolled.
 */
export async function renewed(ask, secret) {
  const answer = (await ask()).json();
  if (!answer.challenge) return answer;
  if (!secret) throw unreachable("the token has run out, and there is no secret to prove who this is");
  const { challenge } = answer;
  return (await ask({ challenge, proof: await proof(secret, challenge) })).json();
}

/** When to renew, in ms: when four fifths of the time that is left are over, and never later than timers can count. */
export const renewal = (seconds) => Math.min(Math.max(seconds * 800, 1000), 0x7fffffff);
