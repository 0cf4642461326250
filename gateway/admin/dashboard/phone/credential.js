// Who this phone is: a credential from a line of text, kept in this browser.

import { connect } from "./client/gateway-client.js";

const KEY = "gateway.credential";

export const load = () => JSON.parse(localStorage.getItem(KEY) ?? "null");
export const forget = () => localStorage.removeItem(KEY);

export function save(credential) {
  localStorage.setItem(KEY, JSON.stringify(credential));
  return credential;
}

/**
 * What a line says: {url, device, token} or {url, enroll}. It is a credential line (`gateway device add`), an enrolment line
 * (`gateway enroll create --line`), the address of this page with either's fragment, or such a fragment alone. Throws a
 * text for a person.
 */
export function parse(line) {
  let text = line.trim();
  if (/^#?wss?%3A/i.test(text)) text = decodeURIComponent(text.replace(/^#/, ""));
  const [head, rest = ""] = text.includes("#") ? text.split(/#(.*)/s) : /^(device|token|enroll)=/.test(text) ? ["", text] : [text];
  if (/^wss?%3A/i.test(rest)) return parse(rest);
  const given = new URLSearchParams(rest.replaceAll("+", "%2B"));
  const token = given.get("token");
  const enroll = given.get("enroll");
  if (!token && !enroll) throw new Error("This is no line of a credential: it has neither token= nor enroll=.");
  const ca = given.get("ca");
  if (enroll) return { url: address(head), enroll, ca };
  return { url: address(head), device: given.get("device") ?? subject(token), token, ca };
}

// Where nothing else is said, the gateway is where the page came from.
function address(head) {
  if (/^wss?:\/\//i.test(head)) return head;
  const place = new URL(head || location.href, location.href);
  if (!/^https?:$/.test(place.protocol)) throw new Error(`${head} is no address of a gateway: it begins with wss:// or ws://.`);
  return `${place.protocol.replace("http", "ws")}//${place.host}/rsocket`;
}

function subject(token) {
  try {
    return JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"))).sub;
  } catch {
    throw new Error("The token of this line is cut short.");
  }
}

/**
 * Whether the gateway at `url` takes this page: it does where the page came from it, and where its `listen.origins` names
 * the page's origin. A browser tells no reason, so the only way to know is to try.
 */
export function admits(url) {
  if (new URL(url).host === location.host) return true;
  return new Promise((resolve) => {
    const socket = new WebSocket(url, "rsocket");
    socket.onclose = () => resolve(false);
    socket.onopen = () => {
      resolve(true);
      socket.close();
    };
  });
}

/** This page as that gateway itself has it, told the same line. */
export function there(url, line) {
  const { protocol, host } = new URL(url);
  return `${protocol.replace("ws", "http")}//${host}/phone/#${encodeURIComponent(line.trim())}`;
}

/** The credential that a line gives; an enrolment's token is exchanged for one. */
export async function redeem(line, name = "") {
  const found = parse(line);
  if (!found.enroll) return found;
  const link = connect(found.url, { token: found.enroll, reconnect: false, resume: 0 });
  try {
    const claim = { token: found.enroll, ...(name && { device_id: name }) };
    const answer = (await link.request("gateway.enroll", claim)).json();
    return { url: found.url, ca: found.ca, device: answer.device_id, token: answer.token, secret: answer.secret };
  } finally {
    link.close();
  }
}
