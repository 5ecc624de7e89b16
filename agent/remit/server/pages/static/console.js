"use strict";
// Every page works without this script. It shows what is recorded meanwhile, and counts down.
{  // the script of the page of a run has names of its own
const live = document.querySelector("[data-live]");
if (live) {
  const source = new EventSource(live.dataset.live);
  const named = () => new Map([...live.querySelectorAll("details")].map((one) => [one.querySelector("summary").textContent, one]));
  let latest = null;
  // What a person has opened stays open. While they write, the page waits until they leave the field.
  const show = async () => {
    const at = document.activeElement;
    if (latest === null || (live.contains(at) && at.matches("input, textarea, select"))) return;
    const opened = [...named()].filter(([, one]) => one.open).map(([name]) => name);
    const text = latest;
    latest = null;
    await htmx.swap({ text, target: live, swap: "innerMorph", sourceElement: live, select: null });
    const now = named();
    for (const name of opened) { if (now.has(name)) now.get(name).open = true; }
    count();
  };
  source.addEventListener("page", (event) => { latest = JSON.parse(event.data); show(); });
  live.addEventListener("focusout", () => setTimeout(show));
  const stale = () => { document.querySelector("#stale").hidden = false; source.close(); };
  source.addEventListener("end", stale);
  source.addEventListener("error", () => { if (source.readyState === EventSource.CLOSED) stale(); });
}
const two = (number) => String(number).padStart(2, "0");
function count() {
  for (const item of document.querySelectorAll("time[data-until]")) {
    const left = Math.max(0, Math.floor(Number(item.dataset.until) - Date.now() / 1000));
    const hours = Math.floor(left / 3600);
    item.textContent = `${hours ? `${hours}:${two(Math.floor(left / 60) % 60)}` : Math.floor(left / 60)}:${two(left % 60)}`;
  }
}
if (document.querySelector("time[data-until]")) { count(); }
setInterval(count, 1000);
// The service waits for a while before it answers with what is still computed.
if (document.querySelector("[data-computes]")) { setTimeout(() => location.reload(), 1000); }
const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (one) => one.charCodeAt(0));
const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
const keys = (ids) => ids.map((id) => ({ type: "public-key", id: bytes(id) }));
async function signed(asked) {
  const made = await navigator.credentials.get({ publicKey: { challenge: bytes(asked.challenge), rpId: asked.rpId,
    allowCredentials: keys(asked.ids), userVerification: "required", timeout: asked.timeout } });
  return { nonce: asked.nonce, id: made.id, client_data: text(made.response.clientDataJSON),
    authenticator_data: text(made.response.authenticatorData), signature: text(made.response.signature) };
}
async function enrolled(asked) {
  const made = await navigator.credentials.create({ publicKey: { challenge: bytes(asked.challenge), rp: { id: asked.rpId, name: "Remit" },
    user: { id: bytes(asked.user), name: asked.name, displayName: asked.name }, excludeCredentials: keys(asked.ids),
    pubKeyCredParams: asked.algorithms.map((alg) => ({ type: "public-key", alg })), timeout: asked.timeout,
    authenticatorSelection: { userVerification: "required" }, attestation: "none" } });
  return { nonce: asked.nonce, client_data: text(made.response.clientDataJSON), attestation: text(made.response.attestationObject) };
}
// Ask the service what is to be signed, let the device sign it, and send the form with the answer.
async function send(form, address, answer) {
  try {
    const asked = await fetch(address, { method: "POST", body: new URLSearchParams(new FormData(form)) });
    if (!asked.ok || !asked.headers.get("content-type").startsWith("application/json")) {
      throw new Error(new DOMParser().parseFromString(await asked.text(), "text/html").querySelector("main").textContent.trim());
    }
    for (const [name, value] of Object.entries(await answer(await asked.json()))) {
      let field = form.querySelector(`input[name=${name}]`);
      if (!field) { field = form.appendChild(document.createElement("input")); field.type = "hidden"; field.name = name; }
      field.value = value;
    }
    form.submit();
  } catch (failure) {
    const place = document.querySelector("#failed");
    place.textContent = failure.message;
    place.hidden = false;
  }
}
for (const [name, answer] of [["signed", signed], ["enrolled", enrolled]]) {
  for (const form of document.querySelectorAll(`form[data-${name}]`)) {
    form.addEventListener("submit", (event) => { event.preventDefault(); send(form, form.dataset[name], answer); });
  }
}
}
