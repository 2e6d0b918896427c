// What the pages need of a script: forms carry the session's token, what was typed is kept, a new device is told of.
"use strict";

const SOON_MS = 400;
let soon = 0;
/** @param {string} name */
const told = (name) => document.querySelector(`meta[name="${name}"]`)?.getAttribute("content") ?? "";
const who = told("who");
let token = told("csrf");
let ended = false; // the session, as far as is known: then nobody is asked for news, and the notice is said once

/** Send what a form asks for; once more where it carries the token of a session that ended, and the same person has signed in again.
 * @param {string} path @param {RequestInit & {headers: Record<string, string>}} request */
async function sent(path, request) {
  const answer = await fetch(path, request);
  if (answer.status !== 403) return answer;
  const asked = await fetch("/api/v1/me", { credentials: "same-origin" });
  const me = asked.ok ? await asked.json() : {};
  if (me.name !== who || !me.csrf || me.csrf === token) return answer;
  token = me.csrf;
  return fetch(path, { ...request, headers: { ...request.headers, "X-CSRF-Token": token } });
}

document.addEventListener("htmx:config:request", (event) => {
  const { ctx } = /** @type {CustomEvent} */ (event).detail;
  ctx.request.headers["X-CSRF-Token"] = token;
  if (ctx.request.method !== "GET") ctx.fetch = sent;
});

document.addEventListener("htmx:before:request", (event) => {
  const { ctx } = /** @type {CustomEvent} */ (event).detail;
  if (ctx.request.method !== "GET") document.getElementById("notice")?.replaceChildren();
  else if (ended) event.preventDefault();
});

document.addEventListener("htmx:before:response", (event) => {
  ended = /** @type {CustomEvent} */ (event).detail.ctx.response.status === 401;
});

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) ended = false; // perhaps signed in again elsewhere
});

/** Where a draft is kept: it belongs to a person, and nobody else who signs in in this tab gets it. @param {HTMLFormElement} form */
const place = (form) => `${who} ${location.pathname} ${form.dataset.draft}`;

/** @typedef {HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement} Field */
/** @param {Field} field @returns {field is HTMLInputElement} */
const ticked = (field) => ["radio", "checkbox"].includes(field.type);

/** The name of a field in a draft. A tick stands for the device on which it was made, and for no other.
 * @param {HTMLFormElement} form @param {Field} field */
const key = (form, field) => !ticked(field) ? field.name
  : `${field.name} ${field.value} ${/** @type {HTMLInputElement | null} */ (form.querySelector('input[name="device"]'))?.value ?? ""}`;

/** Whether a field holds another value than the page came with: only that is a draft, for what others changed since must stand.
 * @param {Field} field */
function touched(field) {
  if (field instanceof HTMLSelectElement) return field.value !== ([...field.options].find((one) => one.defaultSelected) ?? field.options[0])?.value;
  return ticked(field) ? field.checked !== field.defaultChecked : field.value !== field.defaultValue;
}

/** What of a form is kept: never a password. @param {HTMLFormElement} form @returns {Field[]} */
const typed = (form) => /** @type {any[]} */ ([...form.elements]).filter(
  (field) => field.name && !["hidden", "password", "file"].includes(field.type) && "value" in field && field.tagName !== "BUTTON",
);

/** @param {HTMLFormElement} form */
function keep(form) {
  const draft = Object.fromEntries(typed(form).filter(touched).map((field) => [key(form, field), ticked(field) ? field.checked : field.value]));
  if (Object.keys(draft).length) sessionStorage.setItem(place(form), JSON.stringify(draft));
  else sessionStorage.removeItem(place(form));
}

/** Put drafts back into the forms of a page or of a part of it, and keep what is typed there. @param {ParentNode} part */
function keepDrafts(part) {
  for (const form of /** @type {NodeListOf<HTMLFormElement>} */ (part.querySelectorAll("form[data-draft]"))) {
    const draft = JSON.parse(sessionStorage.getItem(place(form)) ?? "{}");
    for (const field of typed(form)) {
      const held = draft[key(form, field)];
      if (held === undefined || field.disabled) continue;
      if (ticked(field)) field.checked = held;
      else if (!(field instanceof HTMLSelectElement) || [...field.options].some((one) => one.value === held)) field.value = held;
    }
    keep(form); // ticks for another device are left behind
    form.addEventListener("input", () => keep(form));
    form.addEventListener("htmx:before:response", (event) => {
      if (/** @type {CustomEvent} */ (event).detail.ctx.response.status < 400) sessionStorage.removeItem(place(form));
    });
  }
}

/** Bring the page of a case up to date where it stands: scan and bone stay drawn, the viewer asks for what is another. */
async function renew() {
  const answer = await fetch(location.href, { credentials: "same-origin", headers: { Accept: "text/html" } });
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  const [old, now] = [document, fresh].map((page) => page.querySelector("main > .columns"));
  const drawn = [document, fresh].map((page) => page.getElementById("viewer") !== null);
  if (!answer.ok || answer.redirected || !old || !now || drawn[0] !== drawn[1]) return location.reload();
  const had = /** @type {any} */ (document.activeElement);
  const inside = old.contains(had);
  old.replaceWith(now);
  /** @type {any} */ (window).htmx.process(now);
  keepDrafts(now);
  watchPictures(now);
  if (inside) /** @type {any[]} */ ([...now.querySelectorAll(had.tagName)]).find((one) => one.name === had.name && one.textContent === had.textContent)?.focus({ preventScroll: true });
  document.dispatchEvent(new Event("batchone:newer"));
  follow();
}

const renewed = () => renew().catch(() => location.reload());

/** Ask for the state again soon while a new device, or its release checks, are to come; tell of one that is another than is shown. */
function follow() {
  const state = document.getElementById("state");
  const now = /** @type {HTMLElement | null} */ (state?.querySelector("[data-device]"))?.dataset;
  if (!state || !now) return;
  clearTimeout(soon);
  if (now.follow === "yes") soon = setTimeout(() => state.dispatchEvent(new Event("again")), SOON_MS);
  if (now.busy === "yes" || now.device === state.dataset.shown) return;
  const newer = document.getElementById("newer");
  if (![...document.querySelectorAll("form[data-draft]")].some((form) => sessionStorage.getItem(place(/** @type {any} */ (form))))) renewed();
  else if (newer) newer.hidden = false;
}

document.addEventListener("htmx:after:swap", (event) => {
  if (/** @type {Element} */ (event.target).closest?.("#state")) follow();
});

document.addEventListener("htmx:before:response", (event) => {
  const { response } = /** @type {CustomEvent} */ (event).detail.ctx;
  if (response.status >= 400 || response.headers.get("HX-Redirect") !== location.pathname || !document.getElementById("state")) return;
  event.preventDefault(); // to the page that is there
  renewed();
});

document.addEventListener("click", (event) => {
  const point = /** @type {HTMLElement | null} */ (/** @type {Element} */ (event.target).closest("[data-point]"))?.dataset.point;
  if (!point) return;
  document.dispatchEvent(new CustomEvent("batchone:goto", { detail: { point: point.split(",").map(Number) } }));
  document.getElementById("viewer")?.scrollIntoView({ block: "start" });
});

// A picture is drawn by the server when somebody looks at it: scan and device come first.
const looked = new IntersectionObserver((seen) => {
  for (const { target, isIntersecting } of seen) {
    const picture = /** @type {HTMLImageElement} */ (target);
    if (!isIntersecting || !picture.dataset.src) continue;
    picture.src = picture.dataset.src;
    looked.unobserve(picture);
  }
});
/** @param {ParentNode} part */
function watchPictures(part) {
  for (const picture of part.querySelectorAll("img[data-src]")) looked.observe(picture);
}

keepDrafts(document);
watchPictures(document);
follow();
