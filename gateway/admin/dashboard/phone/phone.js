// This phone as a device of a gateway: it posts readings, follows those of others, sends commands and takes them.

import { GatewayError, connect } from "./client/gateway-client.js";
import { admits, forget, load, parse, redeem, save, there } from "./credential.js";
import { Outbox } from "./outbox.js";
import { scan } from "./scanner.js";

const $ = (id) => document.getElementById(id);
const SHOWN = 20; // entries of a list
const STATES = { connecting: "Connecting", online: "Online", waiting: "Offline", closed: "Closed" };
const [COLDEST, HOTTEST] = [5, 30];
const [NOT_A_NUMBER, OUT_OF_RANGE] = [0x301, 0x302]; // as the firmware of the thermostat has them

let link = null;
let following = null;
let measuring = null;
const watchers = new Set(); // wake those who stream our readings
const sensors = {};

function say(state, reason = "") {
  $("status").dataset.state = state;
  $("state").textContent = STATES[state] ?? state;
  $("reason").textContent = reason;
}

function enter(list, text) {
  const item = document.createElement("li");
  item.textContent = `${new Date().toLocaleTimeString()}  ${text}`;
  $(list).prepend(item);
  while ($(list).children.length > SHOWN) $(list).lastChild.remove();
}

// What it measures

const reading = () => ({ temperature: Number($("temperature").value), ...sensors });

function moved() {
  $("shown").textContent = `${Number($("temperature").value).toFixed(1)} °C`;
  $("sensors").textContent = Object.entries(sensors).map(([name, value]) => `${name} ${value}`).join(" · ");
  for (const wake of watchers) wake();
}

async function sense() {
  addEventListener("devicemotion", ({ acceleration: a }) => {
    if (a?.x != null) sensors.motion = Number(Math.hypot(a.x, a.y, a.z).toFixed(1));
  });
  const battery = await navigator.getBattery?.().catch(() => null);
  const charge = () => {
    sensors.battery = battery.level;
    moved();
  };
  battery?.addEventListener("levelchange", charge);
  if (battery) charge();
}

async function* readings(_, { signal }) {
  while (!signal.aborted) {
    yield reading();
    await new Promise((resolve) => {
      const wake = () => {
        watchers.delete(wake);
        resolve();
      };
      watchers.add(wake);
      signal.addEventListener("abort", wake, { once: true });
    });
  }
}

// What it is asked

function setTarget(payload, { caller }) {
  const wanted = Number(payload.text());
  if (!payload.text().trim() || Number.isNaN(wanted)) throw new GatewayError(NOT_A_NUMBER, "not a number");
  if (wanted < COLDEST || wanted > HOTTEST) throw new GatewayError(OUT_OF_RANGE, `not within ${COLDEST} and ${HOTTEST}`);
  enter("commands", `set_target ${wanted} from ${caller?.subject ?? "somebody"}`);
  $("temperature").value = wanted;
  moved();
  return String(wanted);
}

function command(payload, { route, caller }) {
  enter("commands", `${route} ${payload.text()} from ${caller?.subject ?? "somebody"}`);
  return "ok";
}

// What it does

function start(credential, outbox) {
  $("join").hidden = true;
  $("joined").hidden = false;
  const authority = credential.ca ? `, whose authority has the fingerprint ${credential.ca}` : "";
  $("who").textContent = `${credential.device} at ${credential.url}${authority}`;
  $("example").textContent = `gateway request ${credential.device}.set_target 21.5`;
  link = connect(credential.url, {
    token: credential.token,
    services: [credential.device],
    routes: { readings: { stream: readings }, set_target: setTarget, "*": command },
    renew: { secret: credential.secret, save: (token) => save(Object.assign(credential, { token })) },
  });
  link.addEventListener("status", ({ detail }) => shown(detail, credential));
  outbox.send(link);
}

function shown({ state, reason, error, node, resumed }, { device, ca }) {
  let why = state === "online" ? `as ${device} at ${node}${resumed ? ", where it was" : ""}` : reason;
  // A browser tells no page why a handshake failed.
  if (error?.name === "UNREACHABLE" && navigator.onLine) {
    if (ca) why += ". Does this browser trust the gateway's authority?";
  }
  say(state, why);
}

/** `linked`: it was in the address of this page, and not typed or scanned here. */
async function join(line, outbox, linked = false) {
  $("trouble").textContent = "";
  $("elsewhere").hidden = true;
  try {
    const { url } = parse(line);
    say("connecting");
    if (!(await admits(url))) {
      $("own").href = there(url, line);
      if (linked) return location.replace($("own").href);
      $("elsewhere").hidden = false;
      throw new Error(`${new URL(url).host} does not answer, or takes no page of ${location.host}.`);
    }
    start(save(await redeem(line, $("name").value.trim())), outbox);
  } catch (error) {
    say("closed", "no credential");
    $("trouble").textContent = error.message;
  }
}

async function scanned(outbox) {
  $("scan").disabled = true;
  $("trouble").textContent = "";
  try {
    const line = await scan($("video"));
    $("line").value = line;
    await join(line, outbox);
  } catch (error) {
    $("trouble").textContent = error.message;
  }
  $("scan").disabled = false;
}

async function follow() {
  if (following) {
    following.abort();
    return;
  }
  following = new AbortController();
  $("follow").textContent = "Stop";
  $("followed").textContent = "";
  try {
    for await (const item of link.subscribe($("source").value, "", { credit: 4, signal: following.signal })) {
      enter("readings", item.text());
    }
    $("followed").textContent = "It has ended.";
  } catch (error) {
    if (!following.signal.aborted) $("followed").textContent = error.message;
  }
  following = null;
  $("follow").textContent = "Follow";
}

async function send() {
  $("answer").textContent = "…";
  try {
    const answer = (await link.request($("route").value, $("command").value)).text();
    $("answer").textContent = `Answer: ${answer || "empty"}`;
  } catch (error) {
    $("answer").textContent = error.message;
  }
}

function measure(outbox) {
  clearInterval(measuring);
  measuring = measuring
    ? null
    : setInterval(async () => {
        const number = Number(localStorage.getItem("gateway.measured") ?? 0) + 1;
        localStorage.setItem("gateway.measured", number);
        $("measured").textContent = number;
        await outbox.post($("target").value, { number, at: Date.now(), ...reading() });
      }, Number($("every").value) * 1000);
  $("post").textContent = measuring ? "Stop posting" : "Start posting";
}

function counted(outbox) {
  for (const name of ["acknowledged", "waiting", "dropped"]) $(name).textContent = outbox[name];
  $("posted").textContent = outbox.trouble;
}

async function main() {
  // Two pages of one device would take the connection from each other, and send what waits twice.
  await new Promise((held) => {
    if (!navigator.locks) return held();
    say("waiting", "another tab has this page open");
    const keep = () => {
      held();
      return new Promise(() => {});
    };
    navigator.locks.request("gateway-phone", keep).catch(held);
  });
  const outbox = await Outbox.open();
  outbox.onchange = () => counted(outbox);
  counted(outbox);
  $("measured").textContent = localStorage.getItem("gateway.measured") ?? 0;
  const on = (id, event, action) =>
    $(id).addEventListener(event, (happened) => {
      happened.preventDefault();
      action(outbox);
    });
  on("paste", "submit", () => join($("line").value, outbox));
  on("scan", "click", scanned);
  on("following", "submit", follow);
  on("sending", "submit", send);
  on("posting", "submit", measure);
  on("temperature", "input", moved);
  on("forget", "click", async () => {
    link.close("forgotten");
    forget();
    localStorage.removeItem("gateway.measured");
    await outbox.clear();
    location.reload();
  });
  await sense();
  moved();
  const fragment = location.hash.slice(1);
  if (fragment) history.replaceState(null, "", location.pathname); // a token stays in no history
  const known = load();
  if (fragment) await join(fragment, outbox, true);
  else if (known) start(known, outbox);
  else say("closed", "no credential");
  $("join").hidden = link !== null;
  navigator.serviceWorker?.register("service-worker.js").catch(() => {}); // without one it works as long as there is a network
}

main();
