// The controls beside the picture: made once from the scene, each labelled, all reached by the keyboard.

import { scaleColour } from "./viewer-geometry.js";

/**
 * Make an element.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag @param {Record<string, string | boolean | number>} [attributes] @param {...(Node | string)} inside
 * @returns {HTMLElementTagNameMap[T]}
 */
export function made(tag, attributes = {}, ...inside) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false) element.setAttribute(name, String(value));
  }
  element.append(...inside);
  return element;
}

/** @param {string} title @param {boolean} open @param {...Node} inside */
export function group(title, open, ...inside) {
  return made("details", { open }, made("summary", {}, title), made("div", { class: "viewer-group" }, ...inside));
}

/** @param {string} text @param {() => void} does @param {Record<string, string | boolean>} [attributes] */
export function button(text, does, attributes = {}) {
  const found = made("button", { type: "button", ...attributes }, text);
  found.addEventListener("click", does);
  return found;
}

/** @param {string} text @param {boolean} on @param {(on: boolean) => void} does */
export function check(text, on, does) {
  const input = made("input", { type: "checkbox" });
  input.checked = on;
  input.addEventListener("change", () => does(input.checked));
  return { row: made("label", { class: "viewer-check" }, input, made("span", {}, text)), input };
}

/** @param {string} text @param {[string, string][]} options value and text @param {(value: string) => void} does */
export function choice(text, options, does) {
  const select = made("select", {}, ...options.map(([value, said]) => made("option", { value }, said)));
  select.addEventListener("change", () => does(select.value));
  return { row: made("label", { class: "viewer-choice" }, made("span", {}, text), select), select };
}

/** @param {string} label @param {{min: number, max: number, step: number, value: number}} range @param {(value: number) => void} does */
export function slider(label, range, does) {
  const input = made("input", { type: "range", "aria-label": label, min: range.min, max: range.max, step: range.step, value: range.value });
  input.addEventListener("input", () => does(Number(input.value)));
  return input;
}

/**
 * One of several buttons that is pressed.
 * @param {string} label @param {[string, string, string][]} options value, text, what it does @param {(value: string) => void} does
 */
export function pressed(label, options, does) {
  const buttons = options.map(([value, text, title]) => button(text, () => does(value), { "aria-pressed": "false", title, "data-value": value }));
  const show = (/** @type {string} */ value) => buttons.forEach((one) => one.setAttribute("aria-pressed", String(one.dataset.value === value)));
  return { row: made("div", { class: "viewer-buttons", role: "group", "aria-label": label }, ...buttons), show };
}

/** The colours of a layer with their numbers. @param {{what: string, unit: string, low: number, high: number}} scale */
export function colourBar(scale) {
  const bar = made("canvas", { width: 256, height: 12, class: "viewer-bar", "aria-hidden": "true" });
  const pen = /** @type {CanvasRenderingContext2D} */ (bar.getContext("2d"));
  for (let x = 0; x < 256; x++) {
    pen.fillStyle = `rgb(${scaleColour(x / 255).join(" ")})`;
    pen.fillRect(x, 0, 1, 12);
  }
  const numbers = [0, 0.25, 0.5, 0.75, 1].map((share) => made("span", {}, String(+(scale.low + share * (scale.high - scale.low)).toFixed(3))));
  return made(
    "figure",
    { class: "viewer-scale", role: "img", "aria-label": `${scale.what}: dark is ${scale.low}, bright is ${scale.high} ${scale.unit}` },
    bar,
    made("div", { class: "viewer-numbers" }, ...numbers),
    made("figcaption", {}, `${scale.what}, ${scale.unit}; grey: none or beyond`),
  );
}
