// What is drawn over the picture: outlines in the planes, crosshair, letters, plan, findings, measures.

import { AXIAL, CORONAL, RENDER, SAGITTAL } from "./viewer-stage.js";
import { contour, dot, minus, plus, turned } from "./viewer-geometry.js";

/** @typedef {import("./viewer-geometry.js").Point} Point */
/** @typedef {import("./viewer-stage.js").Stage} Stage */
/** @typedef {import("./niivue.js").Tile} Tile */
/** @typedef {{points: Point[], kind: "distance" | "angle", text: string}} Measure */

const TITLES = { [AXIAL]: "Axial", [CORONAL]: "Coronal", [SAGITTAL]: "Sagittal", [RENDER]: "3D" };
const ACROSS = { [AXIAL]: 2, [CORONAL]: 1, [SAGITTAL]: 0 }; // the coordinate that a plane keeps
const SIDES = { [AXIAL]: ["R", "L", "A", "P"], [CORONAL]: ["R", "L", "S", "I"], [SAGITTAL]: ["A", "P", "S", "I"] }; // left, right, top, bottom
/** @type {[string, Point][]} */
const DIRECTIONS = [["L", [1, 0, 0]], ["R", [-1, 0, 0]], ["P", [0, 1, 0]], ["A", [0, -1, 0]], ["S", [0, 0, 1]], ["I", [0, 0, -1]]];
export const STATUS_COLOURS = /** @type {Record<string, string>} */ ({ pass: "#4cc38a", warn: "#f5b83d", fail: "#ff5d5d", waived: "#c58bff" });
const INK = "rgba(232, 236, 242, 0.92)";
const FAINT = "rgba(232, 236, 242, 0.55)";
const PLAN = "#ffcf5c";
const MEASURE = "#7ee0ff";
const NEAR_MM = 2; // what lies so far from a plane is still marked in it

export class Overlay {
  /** @param {HTMLCanvasElement} canvas @param {Stage} stage */
  constructor(canvas, stage) {
    this.canvas = canvas;
    this.stage = stage;
    this.pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    /** Outlines drawn in the planes. @type {{name: string, colour: string, surface: import("./viewer-geometry.js").Surface}[]} */
    this.outlined = [];
    /** @type {{name: string, entry: Point, target: Point}[]} */
    this.trajectories = [];
    /** @type {{name: string, point: Point, normal: Point}[]} */
    this.planes = [];
    /** @type {{name: string, points: Point[], closed: boolean}[]} */
    this.curves = [];
    /** @type {{point: Point, colour: string, label: string}[]} */
    this.marks = [];
    /** @type {Measure[]} */
    this.measures = [];
    /** Places of a measure that is not finished. @type {Point[]} */
    this.pending = [];
    this.accent = "#5aa2ff";
    this.px = 1; // canvas px of one CSS px
    /** @type {Map<string, {at: number, ends: Float32Array}>} */
    this.cut = new Map();
  }

  draw() {
    const { canvas, pen } = this;
    const shown = this.stage.canvas;
    if (canvas.width !== shown.width || canvas.height !== shown.height) [canvas.width, canvas.height] = [shown.width, shown.height];
    pen.clearRect(0, 0, canvas.width, canvas.height);
    this.px = this.stage.nv.uiData.dpr || 1;
    for (const tile of this.stage.nv.screenSlices) this.#tile(tile);
  }

  /** @param {Tile} tile */
  #tile(tile) {
    const { pen, px } = this;
    const [left, top, width, height] = box(tile);
    pen.save();
    pen.beginPath();
    pen.rect(left, top, width, height);
    pen.clip();
    pen.lineJoin = pen.lineCap = "round";
    if (tile.axCorSag === RENDER) this.#space(tile);
    else this.#plane(tile);
    for (const mark of this.marks) this.#mark(tile, mark);
    for (const one of this.measures) this.#measure(tile, one.points, one.kind === "angle" ? 1 : -1, one.text);
    if (this.pending.length) this.#measure(tile, this.pending, -1, "");
    this.#title(tile);
    pen.strokeStyle = "rgba(255, 255, 255, 0.14)";
    pen.lineWidth = px;
    pen.strokeRect(left, top, width, height);
    pen.restore();
  }

  /** @param {Tile} tile */
  #plane(tile) {
    const { pen, px, stage } = this;
    const across = ACROSS[/** @type {0 | 1 | 2} */ (tile.axCorSag)];
    const at = turned(stage.crosshair())[across]; // RAS, as the surfaces are
    for (const { name, colour, surface } of this.outlined) {
      const key = `${name}/${across}`;
      let found = this.cut.get(key);
      if (!found || found.at !== at) this.cut.set(key, (found = { at, ends: contour(surface, across, at) }));
      this.#segments(tile, found.ends, colour);
    }
    for (const { entry, target } of this.trajectories) this.#trajectory(tile, across, entry, target);
    for (const plane of this.planes) this.#trace(tile, across, plane);
    const [x, y] = stage.onScreen(tile, stage.crosshair());
    const [left, top, width, height] = box(tile);
    pen.strokeStyle = this.accent;
    pen.globalAlpha = 0.75;
    pen.lineWidth = px;
    const gap = 9 * px;
    this.#lines([[left, y, x - gap, y], [x + gap, y, left + width, y], [x, top, x, y - gap], [x, y + gap, x, top + height]]);
    pen.globalAlpha = 1;
  }

  /** @param {Tile} tile @param {Float32Array} ends pairs of RAS coordinates in the plane @param {string} colour */
  #segments(tile, ends, colour) {
    const { pen, px } = this;
    const [left, top, width, height] = tile.leftTopWidthHeight;
    const [sx, sy] = [width / tile.fovMM[0], -height / tile.fovMM[1]];
    const [x0, y0] = [left - tile.leftTopMM[0] * sx, top + height - tile.leftTopMM[1] * sy];
    pen.beginPath();
    for (let k = 0; k < ends.length; k += 4) {
      pen.moveTo(x0 + ends[k] * sx, y0 + ends[k + 1] * sy);
      pen.lineTo(x0 + ends[k + 2] * sx, y0 + ends[k + 3] * sy);
    }
    pen.strokeStyle = colour;
    pen.lineWidth = 1.6 * px;
    pen.stroke();
  }

  /** A planned way in a plane: dashed as it is seen through it, a ring where it goes through. @param {Tile} tile @param {number} across
   * @param {Point} entry @param {Point} target */
  #trajectory(tile, across, entry, target) {
    const { pen, px, stage } = this;
    const at = stage.crosshair()[across];
    const share = (at - entry[across]) / (target[across] - entry[across]);
    pen.strokeStyle = PLAN;
    pen.lineWidth = 1.5 * px;
    pen.setLineDash([5 * px, 4 * px]);
    this.#lines([[...stage.onScreen(tile, entry), ...stage.onScreen(tile, target)]]);
    pen.setLineDash([]);
    if (share >= 0 && share <= 1) this.#ring(stage.onScreen(tile, plus(entry, minus(target, entry), share)), 4, PLAN, false);
  }

  /** Where a planned plane meets the plane shown. @param {Tile} tile @param {number} across @param {{point: Point, normal: Point, name: string}} plane */
  #trace(tile, across, plane) {
    const { pen, px, stage } = this;
    const inPlane = [0, 1, 2].filter((k) => k !== across);
    const [a, b] = inPlane.map((k) => plane.normal[k]);
    const size = Math.hypot(a, b);
    if (size < 0.05) return; // as good as parallel
    const at = stage.crosshair()[across];
    const off = dot(plane.normal, plane.point) - plane.normal[across] * at;
    /** @type {(along: number) => [number, number]} */
    const end = (along) => {
      /** @type {Point} */
      const place = [0, 0, 0];
      place[across] = at;
      const near = plane.point[inPlane[0]] * (-b / size) + plane.point[inPlane[1]] * (a / size) + along;
      place[inPlane[0]] = (off * a) / size ** 2 - (b / size) * near;
      place[inPlane[1]] = (off * b) / size ** 2 + (a / size) * near;
      return stage.onScreen(tile, place);
    };
    pen.strokeStyle = PLAN;
    pen.globalAlpha = 0.8;
    pen.lineWidth = 1.2 * px;
    pen.setLineDash([9 * px, 4 * px, 2 * px, 4 * px]);
    this.#lines([[...end(-400), ...end(400)]]);
    pen.setLineDash([]);
    pen.globalAlpha = 1;
  }

  /** @param {Tile} tile */
  #space(tile) {
    const { pen, px, stage } = this;
    for (const { points, closed } of this.curves) {
      pen.beginPath();
      points.forEach((place, n) => {
        const [x, y] = stage.onScreen(tile, place);
        if (n) pen.lineTo(x, y);
        else pen.moveTo(x, y);
      });
      if (closed) pen.closePath();
      pen.strokeStyle = PLAN;
      pen.globalAlpha = 0.8;
      pen.lineWidth = 1.4 * px;
      pen.stroke();
      pen.globalAlpha = 1;
    }
    this.#ring(stage.onScreen(tile, stage.crosshair()), 5, this.accent, false);
    for (const [letter, share] of this.letters(tile)) {
      pen.globalAlpha = Math.min(1, 1.4 * Math.hypot(...share) - 0.2);
      this.#text(letter, ...aside(tile, share, px), { align: "center", size: 14, bold: true });
      pen.globalAlpha = 1;
    }
  }

  /** The sides of the patient that a 3D tile shows, and where they lie from its middle (right, up; 1 is in the picture's plane).
   * @param {Tile} tile @returns {[string, [number, number]][]} */
  letters(tile) {
    const { stage } = this;
    const [x0, y0] = stage.onScreen(tile, stage.pivot);
    const half = Math.min(Math.abs(tile.leftTopWidthHeight[2]), tile.leftTopWidthHeight[3]) / 2;
    const length = stage.radius / stage.nv.scene.volScaleMultiplier;
    return DIRECTIONS.map(([letter, way]) => {
      const [x, y] = stage.onScreen(tile, plus(stage.pivot, way, length));
      return /** @type {[string, [number, number]]} */ ([letter, [(x - x0) / half, (y0 - y) / half]]);
    }).filter(([, share]) => Math.hypot(...share) > 0.3);
  }

  /** @param {Tile} tile */
  #title(tile) {
    const { px, stage } = this;
    const [left, top, width, height] = box(tile);
    const kind = tile.axCorSag;
    let text = TITLES[/** @type {0} */ (kind)];
    if (kind !== RENDER) {
      const across = ACROSS[/** @type {0} */ (kind)];
      const mm = stage.crosshair()[across];
      text += `   ${["LR", "PA", "SI"][across][mm >= 0 ? 0 : 1]} ${Math.abs(mm).toFixed(1)} mm`;
      const [l, r, t, b] = SIDES[/** @type {0} */ (kind)];
      const inset = 12 * px;
      this.#text(l, left + inset, top + height / 2, { align: "center", bold: true, size: 14 });
      this.#text(r, left + width - inset, top + height / 2, { align: "center", bold: true, size: 14 });
      this.#text(t, left + width / 2, top + inset, { align: "center", bold: true, size: 14 });
      this.#text(b, left + width / 2, top + height - inset, { align: "center", bold: true, size: 14 });
    }
    this.#text(text, left + 10 * px, top + 15 * px, { colour: FAINT });
    this.#bar(tile);
  }

  /** A length to compare with, at the bottom left. @param {Tile} tile */
  #bar(tile) {
    const { pen, px, stage } = this;
    const [left, top, width, height] = box(tile);
    const pxPerMm = tile.axCorSag === RENDER ? (Math.min(width, height) * stage.nv.scene.volScaleMultiplier) / (2 * stage.radius) : Math.abs(tile.leftTopWidthHeight[2] / tile.fovMM[0]);
    const mm = [1, 2, 5, 10, 20, 50, 100].filter((one) => one * pxPerMm < width / 3.5).pop() ?? 1;
    const y = top + height - 14 * px;
    const x = left + 12 * px;
    pen.strokeStyle = FAINT;
    pen.lineWidth = 2 * px;
    this.#lines([[x, y, x + mm * pxPerMm, y], [x, y - 4 * px, x, y + 4 * px], [x + mm * pxPerMm, y - 4 * px, x + mm * pxPerMm, y + 4 * px]]);
    this.#text(`${mm} mm`, x + mm * pxPerMm + 7 * px, y, { colour: FAINT });
  }

  /** @param {Tile} tile @param {{point: Point, colour: string, label: string}} mark */
  #mark(tile, { point, colour, label }) {
    const { px, stage } = this;
    const off = tile.axCorSag === RENDER ? 0 : Math.abs(point[ACROSS[/** @type {0} */ (tile.axCorSag)]] - stage.crosshair()[ACROSS[/** @type {0} */ (tile.axCorSag)]]);
    if (off > NEAR_MM) return;
    const [x, y] = stage.onScreen(tile, point);
    this.#ring([x, y], 5.5, colour, true);
    if (label) this.#text(label, x + 10 * px, y - 9 * px, {});
  }

  /** @param {Tile} tile @param {Point[]} points @param {number} corner where an arc's text stands, -1: the middle @param {string} text */
  #measure(tile, points, corner, text) {
    const { pen, px, stage } = this;
    const places = points.map((place) => stage.onScreen(tile, place));
    pen.strokeStyle = MEASURE;
    pen.lineWidth = 1.8 * px;
    this.#lines(places.slice(1).map((place, n) => [...places[n], ...place]));
    for (const place of places) this.#ring(place, 3, MEASURE, false);
    if (!text) return;
    const at = corner >= 0 ? places[corner] : [0, 1].map((k) => (places[0][k] + places[places.length - 1][k]) / 2);
    this.#text(text, at[0] + 8 * px, at[1] - 12 * px, { colour: MEASURE, bold: true, size: 13 });
  }

  /** @param {number[][]} lines */
  #lines(lines) {
    this.pen.beginPath();
    for (const [x0, y0, x1, y1] of lines) {
      this.pen.moveTo(x0, y0);
      this.pen.lineTo(x1, y1);
    }
    this.pen.stroke();
  }

  /** @param {[number, number]} at @param {number} radius @param {string} colour @param {boolean} filled */
  #ring([x, y], radius, colour, filled) {
    const { pen, px } = this;
    pen.beginPath();
    pen.arc(x, y, radius * px, 0, 2 * Math.PI);
    pen.lineWidth = 4 * px;
    pen.strokeStyle = "rgba(0, 0, 0, 0.55)";
    pen.stroke();
    pen.lineWidth = 1.8 * px;
    pen.strokeStyle = filled ? "#fff" : colour;
    pen.fillStyle = colour;
    if (filled) pen.fill();
    pen.stroke();
  }

  /** @param {string} text @param {number} x @param {number} y @param {{align?: CanvasTextAlign, colour?: string, size?: number, bold?: boolean}} look */
  #text(text, x, y, { align = "left", colour = INK, size = 12.5, bold = false }) {
    const { pen, px } = this;
    pen.font = `${bold ? 600 : 500} ${size * px}px system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif`;
    pen.textAlign = align;
    pen.textBaseline = "middle";
    pen.lineWidth = 3.5 * px;
    pen.strokeStyle = "rgba(8, 10, 13, 0.8)";
    pen.strokeText(text, x, y);
    pen.fillStyle = colour;
    pen.fillText(text, x, y);
  }
}

/** @param {Tile} tile left, top, width, height, none negative */
function box({ leftTopWidthHeight: [left, top, width, height] }) {
  return [Math.min(left, left + width), top, Math.abs(width), height];
}

/** Where a letter stands: towards its side, near the edge of the tile. @param {Tile} tile @param {[number, number]} share @param {number} px
 * @returns {[number, number]} */
function aside(tile, share, px) {
  const [left, top, width, height] = box(tile);
  const inset = 14 * px;
  const way = [share[0], -share[1]];
  const reach = Math.min((width / 2 - inset) / Math.max(1e-6, Math.abs(way[0])), (height / 2 - inset) / Math.max(1e-6, Math.abs(way[1])));
  return [left + width / 2 + way[0] * reach, top + height / 2 + way[1] * reach];
}
