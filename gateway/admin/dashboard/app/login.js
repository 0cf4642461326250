// Who is logged in. The access token lives in memory for 15 minutes, the refresh token in the browser's storage: it
// works once, so the tabs of a browser take turns. No cookies: nothing is sent unless this code sends it.
import { signal } from "./lib.js";

const KEPT = "gateway.refresh";
const API = "/api/v1";
const EARLY_MS = 30_000;

/** undefined: not known yet; null: nobody; else {type, id, role, scopes, must_change_password}. */
export const me = signal(undefined);

let access = null;
let expiresAt = 0;
let refreshing = null;

const ALLOWED = {
  viewer: ["read"],
  operator: ["read", "operate"],
  publisher: ["read", "publish"],
  auditor: ["read"],
  admin: ["read", "operate", "publish", "write"],
};
const ONLY = { audit: ["admin", "auditor"], backup: ["admin"], users: ["admin"], api_keys: ["admin"] };

/** Whether the one who is logged in may do `action` (read, operate, publish, write) within `scope`: what is not
 * allowed is not offered. The node judges again. */
export function may(scope, action = "read") {
  const who = me.value;
  if (!who) return false;
  if (scope === "any") return true;
  return who.scopes.includes(scope) && ALLOWED[who.role].includes(action) && (ONLY[scope] ?? [who.role]).includes(who.role);
}

/** Log in with {name, password} or {code}. Resolves to null, or the problem document of the refusal. */
export async function logIn(credentials) {
  const answer = await post("/auth/login", credentials);
  if (!answer.ok) return answer.problem;
  take(answer.body);
  await whoIsIt();
  return null;
}

/** End the login here and at the node. */
export async function logOut() {
  const token = access;
  forget();
  if (token) await fetch(`${API}/auth/logout`, { method: "POST", headers: { authorization: `Bearer ${token}` } }).catch(() => {});
}

/** Take up the login that this browser has kept, if any. */
export async function resume() {
  try {
    if (await accessToken()) await whoIsIt();
    else me.value = null;
  } catch {
    // The node cannot be asked: the login may still hold, so it is kept.
    me.value = null;
  }
}

/** A token that holds for the next seconds, or null when nobody is logged in. Rejects when the node cannot be asked. */
export async function accessToken({ fresh = false } = {}) {
  if (access && !fresh && Date.now() < expiresAt - EARLY_MS) return access;
  refreshing ??= inTurn(refresh).finally(() => {
    refreshing = null;
  });
  await refreshing;
  return access;
}

async function refresh() {
  const kept = localStorage.getItem(KEPT);
  if (!kept) {
    forget();
    return;
  }
  const answer = await post("/auth/refresh", { refresh_token: kept });
  if (answer.ok) take(answer.body);
  else if (answer.problem.status === 401) forget();
  else throw new Error(answer.problem.detail);
}

function take(tokens) {
  access = tokens.access_token;
  // By the clock of this machine, however wrong: only how long it holds is taken from the node.
  expiresAt = Date.now() + Math.max(60_000, lifetime(tokens.access_token));
  localStorage.setItem(KEPT, tokens.refresh_token);
}

function lifetime(token) {
  const claims = JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
  return (claims.exp - (claims.iat ?? claims.nbf ?? claims.exp)) * 1000;
}

function forget() {
  access = null;
  expiresAt = 0;
  localStorage.removeItem(KEPT);
  me.value = null;
}

/** Ask the node who this is: after a login and after a change of password. */
export async function whoIsIt() {
  const answer = await fetch(`${API}/auth/me`, { headers: { authorization: `Bearer ${access}` } });
  if (answer.ok) me.value = await answer.json();
  else forget();
}

async function post(path, body) {
  const answer = await fetch(API + path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  const document = await answer.json().catch(() => ({}));
  return answer.ok ? { ok: true, body: document } : { ok: false, problem: { status: answer.status, ...document } };
}

function inTurn(work) {
  return navigator.locks ? navigator.locks.request("gateway.refresh", work) : work();
}

// Logged out in another tab: here, too.
addEventListener("storage", (event) => {
  if (event.key === KEPT && event.newValue === null) forget();
  else if (event.key === KEPT && me.value === null) resume();
});
