// What the pages need of a script: forms carry the session's token, what was typed is kept, a new device is told of.
"use strict";

const token = document.querySelector('meta[name="csrf"]')?.getAttribute("content") ?? "";

document.addEventListener("htmx:config:request", (event) => {
  /** @type {CustomEvent} */ (event).detail.ctx.request.headers["X-CSRF-Token"] = token;
});

document.addEventListener("htmx:before:request", (event) => {
  const { ctx } = /** @type {CustomEvent} */ (event).detail;
  if (ctx.request.method !== "GET") document.getElementById("notice")?.replaceChildren();
});

/** @param {HTMLFormElement} form */
const place = (form) => `${location.pathname} ${form.dataset.draft}`;

/** Whether a field holds another value than the page came with: only that is a draft, for what others changed since must stand.
 * @param {HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement} field */
const touched = (field) => field instanceof HTMLSelectElement
  ? field.value !== ([...field.options].find((one) => one.defaultSelected) ?? field.options[0])?.value
  : field.value !== field.defaultValue;

/** @param {HTMLFormElement} form @returns {(HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement)[]} */
const typed = (form) => /** @type {any[]} */ ([...form.elements]).filter(
  (field) => field.name && !["hidden", "password", "radio", "checkbox"].includes(field.type) && "value" in field && field.tagName !== "BUTTON",
);

for (const form of /** @type {NodeListOf<HTMLFormElement>} */ (document.querySelectorAll("form[data-draft]"))) {
  const draft = JSON.parse(sessionStorage.getItem(place(form)) ?? "{}");
  for (const field of typed(form)) if (field.name in draft) field.value = draft[field.name];
  form.addEventListener("input", () => {
    const draft = Object.fromEntries(typed(form).filter(touched).map((field) => [field.name, field.value]));
    if (Object.keys(draft).length) sessionStorage.setItem(place(form), JSON.stringify(draft));
    else sessionStorage.removeItem(place(form));
  });
  form.addEventListener("htmx:before:response", (event) => {
    if (/** @type {CustomEvent} */ (event).detail.ctx.response.status < 400) sessionStorage.removeItem(place(form));
  });
}

document.getElementById("state")?.addEventListener("htmx:after:swap", () => {
  const state = document.getElementById("state");
  const now = /** @type {HTMLElement | null} */ (state?.querySelector("[data-device]"))?.dataset;
  const newer = document.getElementById("newer");
  if (!state || !now || !newer || now.busy === "yes" || now.device === state.dataset.shown) return;
  if ([...document.querySelectorAll("form[data-draft]")].some((form) => sessionStorage.getItem(place(/** @type {any} */ (form))))) newer.hidden = false;
  else location.reload();
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
for (const picture of document.querySelectorAll("img[data-src]")) looked.observe(picture);
