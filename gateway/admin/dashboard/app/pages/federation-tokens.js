// The lines with which other nodes join: made here, shown once, taken back here.
import { api } from "../api.js";
import { ActionButton, Badge, Copyable, Dialog, Field, Form, Select, confirmed } from "../form.js";
import { ago, count } from "../format.js";
import { html, useSignal } from "../lib.js";
import { useLoaded } from "../loading.js";
import { may } from "../login.js";
import { PagedTable } from "../table.js";
import { t } from "../words.js";

const MINUTE_S = 60;

export function JoinTokens() {
  const topology = useLoaded((signal) => api.get("/topology", null, { signal }));
  const found = topology.value.value;
  const takes = found?.nodes.find((each) => each.id === found.node)?.role === "central";
  const making = useSignal(false);
  const version = useSignal(0);
  const revoke = (token) => async () => {
    if (!(await confirmed(t("federation.revokeSure", { id: token.id }), t("federation.revoke")))) return false;
    await api.delete(`/join-tokens/${encodeURIComponent(token.id)}`);
    version.value += 1;
    return true;
  };
  const columns = [
    { key: "id", label: t("federation.token"), cell: (token) => html`<code>${token.id}</code>` },
    { key: "role", label: t("federation.role"), cell: (token) => t(`federation.role.${token.role}`) },
    { key: "state", label: t("federation.state"), cell: (token) => html`<${StateOf} token=${token} />` },
    { key: "uses", label: t("federation.uses"), number: true, cell: (token) => t("federation.usesOf", { used: count(token.used), uses: count(token.uses) }) },
    { key: "expires", label: t("federation.expires"), cell: (token) => ago(token.expires_at) },
    { key: "by", label: t("federation.by"), cell: (token) => token.created_by },
    {
      key: "revoke",
      label: t("federation.action"),
      cell: (token) => stands(token) && may("federation", "write") && html`<${ActionButton} class="small secondary" aria-label=${t("federation.revokeOne", { id: token.id })} act=${revoke(token)} done=${t("federation.revoked")}>${t("federation.revoke")}</${ActionButton}>`,
    },
  ];
  return html`
    ${takes && may("federation", "write") && html`<p><button type="button" onClick=${() => (making.value = true)}>${t("federation.make")}</button></p>`}
    ${found && !takes && html`<p>${t("federation.takesNone")}</p>`}
    <${PagedTable} path="/join-tokens" columns=${columns} caption=${t("federation.tokens")} rowKey=${(token) => token.id} version=${version.value} on=${["enrolment."]} empty=${t("federation.noTokens")} />
    ${making.value && html`<${Making} close=${() => ((making.value = false), (version.value += 1))} />`}
  `;
}

const stands = (token) => !token.revoked_at && token.used < token.uses && new Date(token.expires_at) > Date.now();

function StateOf({ token }) {
  if (token.revoked_at) return html`<${Badge}>${t("federation.revoked")}</${Badge}>`;
  if (token.used >= token.uses) return html`<${Badge}>${t("federation.usedUp")}</${Badge}>`;
  return stands(token) ? html`<${Badge} tone="ok">${t("federation.stands")}</${Badge}>` : html`<${Badge}>${t("federation.expired")}</${Badge}>`;
}

function Making({ close }) {
  const role = useSignal("edge");
  const uses = useSignal("1");
  const minutes = useSignal("15");
  const services = useSignal("*");
  const routes = useSignal("*");
  const made = useSignal(null);
  const patterns = (text) => text.split(/[\s,]+/).filter(Boolean);
  async function make() {
    made.value = await api.post("/join-tokens", {
      role: role.value,
      uses: Number(uses.value),
      ttl_s: Number(minutes.value) * MINUTE_S,
      services: patterns(services.value),
      routes: patterns(routes.value),
    });
  }
  if (made.value) {
    const command = `gateway join ${made.value.token}${role.value === "central" ? " --role central --url URL" : ""}`;
    return html`<${Dialog} title=${t("federation.madeTitle")} close=${close} wide>
      <p>${t("federation.madeHow")}</p>
      <${Copyable} text=${command} label=${t("federation.command")} multiline />
      ${role.value === "central" && html`<p>${t("federation.madeCentral")}</p>`}
      <p><small>${t("federation.once")}</small></p>
    </${Dialog}>`;
  }
  return html`<${Dialog} title=${t("federation.make")} close=${close}>
    <${Form} send=${make} action=${t("federation.makeIt")}>
      <${Select} label=${t("federation.role")} bind=${role} options=${[["edge", t("federation.role.edge")], ["central", t("federation.role.central")]]} />
      <${Field} label=${t("federation.uses")} hint=${t("federation.usesHint")} type="number" min="1" max="10000" required bind=${uses} />
      <${Field} label=${t("federation.minutes")} type="number" min="1" max="10080" required bind=${minutes} />
      <${Field} label=${t("federation.mayServe")} hint=${t("federation.patternsHint")} bind=${services} />
      <${Field} label=${t("federation.mayCall")} bind=${routes} />
    </${Form}>
  </${Dialog}>`;
}
