// Changing what a device is and may do. Somebody else's change in between is shown, never overwritten unseen.
import { api } from "../../api.js";
import { Dialog, Field, ProblemBox, Select, toast } from "../../form.js";
import { html, useSignal } from "../../lib.js";
import { list, listText, pairs, pairsText } from "../../pairs.js";
import { t } from "../../words.js";

const asText = (device) => ({
  profile: device.profile,
  kind: device.kind,
  labels: pairsText(device.labels),
  groups: listText(device.groups),
  services: listText(device.services),
  routes: listText(device.routes),
  firmware: device.firmware,
  notes: device.notes,
});

const asValue = (text) => ({
  ...text,
  labels: pairs(text.labels),
  groups: list(text.groups),
  services: list(text.services),
  routes: list(text.routes),
});

export function Edit({ device, close, done }) {
  // What it was when the dialog was opened: the page behind goes on being read.
  const base = useSignal(device);
  const text = useSignal(asText(device));
  const theirs = useSignal(null);
  const problem = useSignal(null);
  const path = `/devices/${encodeURIComponent(device.id)}`;

  async function save(event) {
    event.preventDefault();
    const before = asText(base.value);
    const changed = Object.keys(before).filter((name) => text.value[name] !== before[name]);
    const values = asValue(text.value);
    try {
      if (changed.length) {
        const body = Object.fromEntries(changed.map((name) => [name, values[name]]));
        await api.patch(path, body, { headers: { "if-match": `"${base.value.version}"` } });
      }
      toast(t("device.saved"));
      done();
      close();
    } catch (error) {
      problem.value = error;
      if (error.status === 412) {
        theirs.value = await api.get(path).catch(() => null);
      }
    }
  }
  /** Go on from what somebody else made of it, with what was changed here on top. */
  function merge() {
    const [was, now] = [asText(base.value), asText(theirs.value)];
    text.value = Object.fromEntries(Object.keys(now).map((name) => [name, text.value[name] === was[name] ? now[name] : text.value[name]]));
    base.value = theirs.value;
    theirs.value = problem.value = null;
  }
  function takeTheirs() {
    base.value = theirs.value;
    text.value = asText(theirs.value);
    theirs.value = problem.value = null;
  }
  const field = (name) => ({ value: text.value[name], onInput: (event) => (text.value = { ...text.value, [name]: event.currentTarget.value }) });
  return html`<${Dialog} title=${t("device.editTitle", { id: device.id })} close=${close} wide>
    ${theirs.value ? html`<${Conflict} base=${asText(base.value)} mine=${text.value} theirs=${asText(theirs.value)} merge=${merge} takeTheirs=${takeTheirs} />` : html`<${ProblemBox} problem=${problem.value} />`}
    <form onSubmit=${save}>
      <div class="grid2">
        <${Field} label=${t("device.profile")} maxlength="255" ...${field("profile")} />
        <${Select} label=${t("device.kind")} value=${text.value.kind} onChange=${field("kind").onInput} options=${["device", "service", "user"].map((kind) => [kind, kind])} />
        <${Field} label=${t("device.labels")} hint=${t("device.labelsHint")} ...${field("labels")} />
        <${Field} label=${t("device.groups")} hint=${t("device.listHint")} ...${field("groups")} />
        <${Field} label=${t("device.services")} hint=${t("device.servicesHint", { sub: "{sub}" })} ...${field("services")} />
        <${Field} label=${t("device.routes")} hint=${t("device.routesHint")} ...${field("routes")} />
        <${Field} label=${t("device.firmware")} maxlength="255" ...${field("firmware")} />
        <${Field} label=${t("device.notes")} as="textarea" rows="3" maxlength="4096" ...${field("notes")} />
      </div>
      <footer>
        <button type="button" class="secondary" onClick=${close}>${t("device.cancel")}</button>
        <button type="submit" disabled=${theirs.value !== null}>${t("device.save")}</button>
      </footer>
    </form>
  </${Dialog}>`;
}

function Conflict({ base, mine, theirs, merge, takeTheirs }) {
  const names = Object.keys(base).filter((name) => theirs[name] !== base[name]);
  return html`<div class="problem conflict" role="alert">
    <strong>${t("device.conflict")}</strong>
    <ul>
      ${names.map((name) => html`<li key=${name}>${t(`device.${name}`)}: ${t("device.theirs", { before: base[name] || "–", now: theirs[name] || "–" })}
        ${mine[name] !== base[name] && html` <strong>${t("device.yours", { mine: mine[name] || "–" })}</strong>`}</li>`)}
    </ul>
    <div class="bar">
      <button type="button" class="small" onClick=${merge}>${t("device.merge")}</button>
      <button type="button" class="small secondary" onClick=${takeTheirs}>${t("device.takeTheirs")}</button>
    </div>
  </div>`;
}
