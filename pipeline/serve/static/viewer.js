// The viewer of a case: fetches its scene, draws it, and lets a person look around, measure and arrive at findings.
// Everything told to and by this module is patient LPS in mm.

import { LAYOUTS, RENDER, Stage, VIEWS } from "./viewer-stage.js";
import { Overlay, STATUS_COLOURS } from "./viewer-overlay.js";
import { angleDeg, cross, distanceMm, hexColour, placeText, plus, readMz3, rod, scaleColour, square, turned, unit } from "./viewer-geometry.js";
import { button, check, choice, colourBar, group, made, pressed, slider } from "./viewer-panel.js";

/** @typedef {import("./viewer-geometry.js").Point} Point */
/** @typedef {import("./viewer-geometry.js").Surface} Surface */
/** @typedef {{what: string, unit: string, low: number, high: number}} Scale */
/** @typedef {{name: string, title: string, kind: string, url: string, full_url: string, colour: string, opacity: number, visible: boolean,
 *   base: string, values: Scale | null}} SurfaceInfo */
/** @typedef {{id: string, check: string, text: string, status: string, points: Point[]}} FindingInfo */
/** @typedef {{name: string, part: string, point: Point, axis: Point, across: Point, length_mm: number, urls: string[]}} SectionInfo */
/** @typedef {{case: string, digest: string, shapes: string, volume: {url: string, full_url: string | null, window_hu: [number, number], spacing_mm: number[]},
 *   surfaces: SurfaceInfo[], trajectories: {name: string, entry: Point, target: Point, diameter_mm: number | null}[],
 *   planes: {name: string, point: Point, normal: Point, side_mm: number}[], curves: {name: string, points: Point[], closed: boolean}[],
 *   findings: FindingInfo[], sections: SectionInfo[], landmarks: {name: string, point: Point, spread_mm: number}[],
 *   box: {centre: Point, size: Point} | null}} Scene */
/** @typedef {{info: SurfaceInfo, mesh: import("./niivue.js").NVMesh, surface: Surface}} Loaded */

const WINDOWS = /** @type {Record<string, [number, number]>} */ ({ wide: [-250, 1350], bone: [-400, 2200], soft: [-160, 240] });
const LINE_RADIUS_MM = 0.5; // of a planned way whose drill is not known
const CLOSE = 0.62; // of a picture that a device fills
const ALL = 0.42; // of the diagonal of everything
const ASIDE_MM = 8; // a device nearer to the middle of its bones is first seen from the front
const STEEPEST_DEG = 35; // of the first look at it
const SCAN_LEFT_MM = 15; // by which a device may grow before another scan is asked for: it reaches 30 mm beyond the first one
const STEP_MM = 1;
const FINE_STEP_MM = 0.1;
const CLICK_PX = 4; // a pointer that moved further has dragged
const AXES = /** @type {Record<string, Point>} */ ({ sagittal: [1, 0, 0], coronal: [0, 1, 0], axial: [0, 0, 1] });
const HELP =
  "Keys, while the viewer has the focus: A P L R S I look at that side; arrows and Page Up/Down move the crosshair by 1 mm (with Shift 0.1 mm); " +
  "+ and - enlarge; F fits; 1 to 6 choose the layout; D distance, G angle, M adds the crosshair's place, Escape ends; X cuts at the crosshair. " +
  "Mouse: left sets the crosshair or turns, right moves, wheel goes through the slices, with Ctrl it enlarges.";

class Viewer {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.root = root;
    this.base = new URL(root.dataset.scene ?? "", document.baseURI);
    /** @type {Map<string, Loaded>} */
    this.loaded = new Map();
    /** @type {Map<string, Promise<ArrayBuffer>>} */
    this.asked = new Map();
    /** @type {Record<string, number>} */
    this.timings = {};
    /** Rods and squares of the plan. @type {import("./niivue.js").NVMesh[]} */
    this.planned = [];
    /** @type {Map<string, HTMLInputElement>} */
    this.checks = new Map();
    this.planes = false; // shown or not
    this.ways = true;
    this.bytes = 0;
    this.shapes = ""; // of the scene whose surfaces are all drawn
    /** What the scan that is there was cut for; "whole": for nothing. @type {Scene["box"] | "whole"} */
    this.cutFor = null;
    this.opened = ""; // the section whose pictures are shown
    /** @type {"distance" | "angle" | null} */
    this.measuring = null;
    /** @type {FindingInfo | null} */
    this.chosen = null;
    this.clip = { kind: "none", at: 0, flip: false, /** @type {Point} */ normal: [1, 0, 0] };
    this.marks = { findings: true, landmarks: false };
    this.picture = made("canvas", { class: "viewer-picture", "aria-label": "Scan in three planes and device in 3D", role: "application", tabindex: 0 });
    this.over = made("canvas", { class: "viewer-over", "aria-hidden": "true" });
    this.measures = made("ol", { class: "viewer-measures", "aria-label": "Measures" });
    this.state = made("p", { class: "viewer-state", role: "status" }, "Loading the scene");
    this.where = made("output", { class: "viewer-where", "aria-live": "off" });
    this.panel = made("aside", { class: "viewer-panel", "aria-label": "Viewer controls" });
    this.sections = made("div", { class: "viewer-sections", hidden: true, "aria-live": "polite" });
    const help = made("p", { class: "viewer-help" }, HELP);
    const stage = made("div", { class: "viewer-stage" }, this.picture, this.over, this.state);
    root.classList.add("viewer");
    root.replaceChildren(made("div", { class: "viewer-main" }, stage, made("div", { class: "viewer-line" }, this.where), this.sections, help), this.panel);
    this.stage = new Stage(this.picture);
    this.overlay = new Overlay(this.over, this.stage);
  }

  async open() {
    /** @type {Promise<[Scene, Promise<ArrayBuffer>]>} */
    const asked = this.#fetched("").then(async (answer) => {
      const scene = /** @type {Scene} */ (await answer.json());
      const scan = this.#bytes(scene.volume.url);
      const first = scene.surfaces.filter((one) => one.visible && one.kind !== "bone").map((one) => this.#ask(one));
      Promise.all([scan, ...first]).then(() => scene.surfaces.filter((one) => one.visible).forEach((one) => this.#ask(one)), () => {}); // bones next
      return [scene, scan];
    });
    const [[scene, scan]] = await Promise.all([asked, this.stage.open()]);
    this.scene = scene;
    this.cutFor = scene.box;
    this.overlay.accent = getComputedStyle(this.root).getPropertyValue("--viewer-accent").trim() || this.overlay.accent;
    const { box, volume, surfaces } = scene;
    this.#controls(scene);
    this.#listen();
    const shown = surfaces.filter((one) => one.visible);
    await Promise.all([scan.then((data) => this.stage.setVolume(data, volume.window_hu)), ...shown.filter((one) => one.kind !== "bone").map((one) => this.#load(one))]);
    this.fit();
    this.#plan(this.scene);
    this.goto(box?.centre ?? this.stage.crosshair());
    this.#refresh();
    this.#time("first");
    const bones = await Promise.all(shown.filter((one) => one.kind === "bone").map((one) => this.#load(one)));
    this.#faceDevice(bones.map(({ surface }) => surface));
    this.#refresh();
    this.#time("full");
    this.shapes = scene.shapes;
    this.#say("");
  }

  /** Show what the case has become since: another device, or other findings of the same. */
  async renew() {
    const before = this.scene;
    const scene = /** @type {Scene} */ (await (await this.#fetched("")).json());
    if (!before || (scene.digest === before.digest && scene.shapes === this.shapes)) return;
    const looks = new Map(before.surfaces.map(({ name, visible, colour, opacity }) => [name, { visible, colour, opacity }]));
    for (const one of scene.surfaces) Object.assign(one, looks.get(one.name));
    this.scene = scene;
    this.chosen = scene.findings.find(({ text }) => text === this.chosen?.text) ?? null;
    if (scene.shapes !== this.shapes) await this.#reshape(before, scene);
    this.#refresh();
    this.#say("");
  }

  /** Other voxels and triangles: the device first; bones and scan stay until theirs are there. @param {Scene} before @param {Scene} scene */
  async #reshape(before, scene) {
    const names = (/** @type {Scene} */ one) => JSON.stringify([one.surfaces.map(({ name }) => name), one.sections.map(({ name }) => name)]);
    if (names(scene) !== names(before)) {
      this.#controls(scene);
      this.showLayer?.(scene.surfaces.find((one) => one.values && one.visible)?.name ?? "");
    }
    const isBone = (/** @type {SurfaceInfo} */ { kind }) => kind === "bone";
    const shown = scene.surfaces.filter((one) => one.visible);
    const data = shown.filter((one) => !isBone(one)).map((one) => this.#bytes(one.url));
    await Promise.all(data);
    this.asked.clear();
    for (const [name, { info, mesh }] of [...this.loaded]) {
      if (isBone(info) && shown.some((one) => one.name === name)) continue;
      this.loaded.delete(name);
      this.stage.removeSurface(mesh);
    }
    shown.filter((one) => !isBone(one)).forEach((one, n) => this.asked.set(one.name, data[n]));
    await Promise.all(shown.filter((one) => !isBone(one)).map((one) => this.#load(one)));
    for (const mesh of this.planned.splice(0)) this.stage.removeSurface(mesh);
    this.#plan(scene);
    this.clearMeasures(); // of the device before
    this.#section(scene.sections.find(({ name }) => name === this.opened));
    this.#refresh();
    this.#time("renewed");
    for (const one of shown.filter(isBone)) {
      await this.#ask(one);
      const old = this.loaded.get(one.name);
      this.loaded.delete(one.name);
      await this.#load(one);
      if (old) this.stage.removeSurface(old.mesh);
    }
    const [old, box] = [this.cutFor, scene.box];
    const moved = !old || !box || (old !== "whole" && box.centre.some((mm, k) => Math.abs(mm - old.centre[k]) + Math.abs(box.size[k] - old.size[k]) / 2 > SCAN_LEFT_MM));
    if (moved && old !== "whole") {
      await this.stage.setVolume(await this.#bytes(scene.volume.url), scene.volume.window_hu);
      this.cutFor = box;
    }
    this.shapes = scene.shapes;
  }

  /** Look at the device from the side of the bones that it lies on. @param {Surface[]} bones */
  #faceDevice(bones) {
    const centre = this.scene?.box?.centre;
    if (!centre || bones.length === 0) return;
    const middle = turned(middleOf(bones.map(({ points }) => points)));
    const away = /** @type {Point} */ (centre.map((mm, axis) => mm - middle[axis]));
    if (Math.hypot(...away) > ASIDE_MM) this.stage.viewFrom(away, STEEPEST_DEG);
  }

  /** @param {string} name */
  #time(name) {
    this.stage.paint();
    this.stage.nv.gl.finish();
    this.timings[name] = performance.now();
    performance.mark(`batchone-${name}`);
  }

  /** @param {string} url relative to the scene's @param {RequestInit} [how] */
  async #fetched(url, how) {
    const address = url ? new URL(url, `${this.base.href.replace(/[^/]*$/, "")}`) : this.base;
    const answer = await fetch(address, { credentials: "same-origin", ...how });
    if (!answer.ok) throw new Error(`${address.pathname}: ${answer.status} ${answer.statusText}`);
    return answer;
  }

  /** @param {string} url */
  async #bytes(url) {
    const data = await (await this.#fetched(url)).arrayBuffer();
    this.bytes += data.byteLength;
    return data;
  }

  /** The file of a surface, asked for once. @param {SurfaceInfo} info */
  #ask(info) {
    const found = this.asked.get(info.name) ?? this.#bytes(info.url);
    this.asked.set(info.name, found);
    found.catch(() => this.asked.delete(info.name)); // may be asked for again
    return found;
  }

  /** @param {SurfaceInfo} info @returns {Promise<Loaded>} */
  async #load(info) {
    const data = await this.#ask(info);
    const known = this.loaded.get(info.name);
    if (known) return known;
    const surface = readMz3(data);
    const creased = info.kind !== "bone" && info.kind !== "uncertainty";
    const mesh = this.stage.addSurface(info.name, surface, coloured(info, surface), { opacity: info.opacity, visible: info.visible, creased });
    const found = { info, mesh, surface };
    this.loaded.set(info.name, found);
    return found;
  }

  /** Planned ways as rods, planned planes as squares. @param {Scene} scene */
  #plan(scene) {
    for (const { name, entry, target, diameter_mm: diameter } of scene.trajectories) {
      this.#drawn(`trajectory ${name}`, rod(turned(entry), turned(target), diameter ? diameter / 2 : LINE_RADIUS_MM), "#ffcf5c", 1);
    }
    for (const { name, point, normal, side_mm: side } of scene.planes) {
      this.#drawn(`plane ${name}`, square(turned(point), turned(normal), side), "#ffcf5c", 0.28);
    }
    this.showPlan(this.ways);
  }

  /** @param {string} name @param {Surface} surface @param {string} colour @param {number} opacity */
  #drawn(name, surface, colour, opacity) {
    const mesh = this.stage.addSurface(name, surface, Uint8Array.from([...hexColour(colour), 255]), { opacity, visible: true, creased: false });
    this.planned.push(mesh);
  }

  /** @param {boolean} on */
  showPlan(on) {
    const { overlay, scene } = this;
    this.ways = on;
    if (!scene) return;
    for (const mesh of this.planned) mesh.visible = on && (!mesh.name.startsWith("plane ") || this.planes);
    overlay.trajectories = on ? scene.trajectories : [];
    overlay.curves = on ? scene.curves : [];
    overlay.planes = on && this.planes ? scene.planes : [];
    this.stage.nv.drawScene();
  }

  /** @param {{centre: Point, size: Point}} box */
  #centre(box) {
    this.stage.lookAt(box.centre, Math.max(20, CLOSE * Math.hypot(...box.size)));
  }

  /** Put outlines and marks in step with what is visible. */
  #refresh() {
    const { overlay, scene } = this;
    const own = (/** @type {SurfaceInfo} */ info) => scene?.surfaces.find(({ name }) => name === info.base)?.colour ?? info.colour; // also under a layer
    overlay.outlined = [...this.loaded.values()]
      .filter(({ mesh, info }) => mesh.visible && mesh.opacity > 0 && info.kind !== "reference")
      .map(({ info, surface }) => ({ name: info.name, colour: own(info), surface }));
    const looked = scene?.findings.filter((one) => one === this.chosen || (this.marks.findings && one.status !== "pass")) ?? [];
    overlay.marks = looked.flatMap((one) => one.points.map((point) => ({ point, colour: STATUS_COLOURS[one.status], label: one === this.chosen ? one.check : "" })));
    if (this.marks.landmarks) for (const { name, point } of scene?.landmarks ?? []) overlay.marks.push({ point, colour: "#9db4d3", label: name });
    this.stage.nv.drawScene();
  }

  /** @param {Scene} scene */
  #controls(scene) {
    const plain = scene.surfaces.filter((one) => !one.values);
    const layers = scene.surfaces.filter((one) => one.values);
    const rows = plain.map((one) => this.#surfaceRow(one));
    const bar = made("div", { class: "viewer-layer", "aria-live": "polite" });
    const layer = choice("Coloured by", [["", "nothing"], ...layers.map((one) => /** @type {[string, string]} */ ([one.name, one.title]))], (name) => this.layer(name).catch((error) => this.#failed(error)));
    this.showLayer = (/** @type {string} */ name) => {
      const scale = layers.find((one) => one.name === name)?.values;
      bar.replaceChildren(...(scale ? [colourBar(scale)] : []));
      layer.select.value = name;
    };
    const layouts = pressed("Layout", [
      ["four", "Four", "Three planes and 3D (1)"], ["large", "3D large", "3D with three planes beside (2)"], ["3d", "3D", "3D alone (3)"],
      ["axial", "Axial", "Axial plane alone (4)"], ["coronal", "Coronal", "Coronal plane alone (5)"], ["sagittal", "Sagittal", "Sagittal plane alone (6)"],
    ], (name) => this.setLayout(name));
    const sides = { A: "front", P: "back", L: "patient's left", R: "patient's right", S: "head", I: "feet" };
    const views = made("div", { class: "viewer-buttons", role: "group", "aria-label": "Look at the patient from" },
      ...Object.entries(sides).map(([key, side]) => button(key, () => this.view(key), { title: `From the ${side} (${key})`, "aria-label": `From the ${side}` })));
    const size = made("div", { class: "viewer-buttons", role: "group", "aria-label": "Size" },
      button("−", () => this.enlarge(1 / 1.25), { "aria-label": "Smaller", title: "Smaller (-)" }), button("+", () => this.enlarge(1.25), { "aria-label": "Larger", title: "Larger (+)" }),
      button("Fit", () => this.fit(), { title: "Device in the middle (F)" }), button("All", () => this.fit(true), { title: "Everything that is shown" }));
    this.showLayout = layouts.show;
    this.showLayout(this.stage.layout);
    const cut = choice("Cut 3D", [["none", "no"], ["axial", "axial"], ["coronal", "coronal"], ["sagittal", "sagittal"]], (kind) => this.cut(kind));
    this.showCut = (/** @type {string} */ kind) => (cut.select.value = kind in AXES || kind === "none" ? kind : "none");
    this.showCut(this.clip.kind);
    this.cutAt = slider("Place of the cut, mm from the crosshair", { min: -60, max: 60, step: 0.5, value: 0 }, (mm) => this.#shiftCut(mm));
    const other = check("the other side", this.clip.flip, (on) => ((this.clip.flip = on), this.#applyCut()));
    const planes = check("planes", this.planes, (on) => ((this.planes = on), this.showPlan(plan.input.checked)));
    const plan = check("planned ways and rims", this.ways, (on) => this.showPlan(on));
    const findings = check("findings that need a look", this.marks.findings, (on) => ((this.marks.findings = on), this.#refresh()));
    const landmarks = check("landmarks", this.marks.landmarks, (on) => ((this.marks.landmarks = on), this.#refresh()));
    const scan = choice("Window", [["wide", "wide"], ["bone", "bone"], ["soft", "soft tissue"]], (name) => this.stage.setWindow(...WINDOWS[name]));
    const full = button("Whole scan, full resolution", () => this.fullVolume(full).catch((error) => this.#failed(error)), { disabled: !scene.volume.full_url });
    this.measureButtons = pressed("Measure", [["distance", "Distance", "Two places (D)"], ["angle", "Angle", "Three places, the second is the corner (G)"]], (kind) => this.measure(kind === this.measuring ? null : /** @type {"distance"} */ (kind)));
    this.hint = made("p", { class: "viewer-hint", role: "status" });
    const place = made("div", { class: "viewer-buttons" }, button("Add the crosshair's place", () => this.addPlace(this.stage.crosshair()), { title: "Add the crosshair's place (M)" }), button("Clear", () => this.clearMeasures()));
    const sections = scene.sections.map((one) => button(one.name.replaceAll("-", " "), () => this.section(one.name), { title: `Section through ${one.name}` }));
    this.panel.replaceChildren(
      group("View", true, layouts.row, views, size),
      group("Surfaces", true, ...rows),
      group("Colours", true, layer.row, bar),
      group("Cut and marks", true, cut.row, this.cutAt, other.row, plan.row, ...(scene.planes.length ? [planes.row] : []), findings.row, landmarks.row),
      ...(sections.length ? [group("Sections", true, made("div", { class: "viewer-buttons wrap" }, ...sections))] : []),
      group("Measure", true, this.measureButtons.row, this.hint, place, this.measures),
      group("Scan", false, scan.row, full),
    );
  }

  /** @param {SurfaceInfo} info */
  #surfaceRow(info) {
    const shown = check(info.title, info.visible, (on) => this.show(info.name, { visible: on }).catch((error) => this.#failed(error)));
    const colour = made("input", { type: "color", value: info.colour, "aria-label": `Colour of ${info.title}` });
    colour.addEventListener("input", () => this.show(info.name, { colour: colour.value }));
    const opacity = slider(`Opacity of ${info.title}`, { min: 0.05, max: 1, step: 0.05, value: info.opacity }, (value) => this.show(info.name, { opacity: value }));
    const whole = made("a", { href: this.#address(info.full_url), download: `${info.name}.mz3`, "aria-label": `Download ${info.title}, all of its triangles`, title: "Download all of its triangles (MZ3)", class: "viewer-get" }, "↓");
    this.checks.set(info.name, shown.input);
    return made("div", { class: "viewer-surface" }, shown.row, colour, opacity, whole);
  }

  /** @param {string} url */
  #address(url) {
    return new URL(url, this.base.href.replace(/[^/]*$/, "")).href;
  }

  /** @param {string} name @param {{visible?: boolean, colour?: string, opacity?: number}} look */
  async show(name, look) {
    const info = this.scene?.surfaces.find((one) => one.name === name);
    if (!info) throw new Error(`there is no surface ${name}`);
    Object.assign(info, look);
    const { mesh } = await this.#load(info);
    mesh.visible = info.visible;
    mesh.opacity = info.opacity;
    if (look.colour) {
      mesh.rgba255 = Uint8Array.from([...hexColour(info.colour), 255]);
      mesh.updateMesh(this.stage.nv.gl);
    }
    const box = this.checks.get(name);
    if (box) box.checked = info.visible;
    this.#refresh();
  }

  /** Show one coloured layer in the place of the surface that it colours; "" shows the surfaces again. @param {string} name */
  async layer(name) {
    this.showLayer?.(name);
    for (const one of this.scene?.surfaces ?? []) {
      if (one.values && one.name !== name && one.visible) {
        await this.show(one.name, { visible: false });
        await this.show(one.base, { visible: true });
      }
    }
    const info = this.scene?.surfaces.find((one) => one.name === name);
    if (!info) return;
    await this.show(name, { visible: true });
    await this.show(info.base, { visible: false });
  }

  /** @param {string} name */
  setLayout(name) {
    this.stage.setLayout(name);
    this.showLayout?.(name);
  }

  /** @param {string} name */
  view(name) {
    if (!(name in VIEWS)) throw new Error(`there is no view ${name}`);
    this.stage.view(name);
  }

  /** @param {number} share */
  enlarge(share) {
    const { nv } = this.stage;
    nv.scene.volScaleMultiplier = Math.min(20, Math.max(0.2, nv.scene.volScaleMultiplier * share));
    this.stage.setZoom(this.stage.zoom * share);
  }

  /** The device in the middle, or everything. */
  fit(all = false) {
    const box = this.scene?.box;
    this.stage.setZoom(1);
    if (box) this.#centre(box);
    if (!all) return;
    const [low, high] = this.stage.box;
    const middle = /** @type {Point} */ (low.map((mm, axis) => (mm + high[axis]) / 2));
    this.stage.lookAt(middle, ALL * distanceMm(low, high));
  }

  /** @param {Point} place LPS */
  goto(place) {
    this.stage.moveTo(place);
    this.#told();
  }

  #told() {
    const value = this.stage.valueAtCrosshair();
    this.where.textContent = `${placeText(this.stage.crosshair())} mm${value === null ? "" : `   ${Math.round(value)} HU`}`;
  }

  /** @param {string} kind a plane of the patient, or none */
  cut(kind) {
    this.clip.kind = kind;
    if (kind in AXES) this.clip.normal = AXES[kind];
    if (this.cutAt) this.cutAt.value = "0";
    this.#shiftCut(0);
    this.showCut?.(kind);
  }

  /** @param {number} mm */
  #shiftCut(mm) {
    this.clip.at = this.clip.normal.reduce((sum, part, axis) => sum + part * this.stage.crosshair()[axis], mm);
    this.#applyCut();
  }

  #applyCut() {
    const { kind, normal, at, flip } = this.clip;
    const sign = flip ? -1 : 1;
    this.stage.setClip(kind === "none" ? null : { normal: /** @type {Point} */ (normal.map((part) => sign * part)), at: sign * at });
  }

  /** Cut the 3D view along a sleeve's or slot's way, look at the cut, and show its pictures. @param {string} name */
  section(name) {
    const found = this.scene?.sections.find((one) => one.name === name);
    if (!found) throw new Error(`there is no section ${name}`);
    this.goto(found.point);
    this.clip = { kind: name, at: 0, flip: false, normal: this.clip.normal };
    this.opened = name;
    this.#section(found);
    this.showCut?.(name);
    this.stage.viewFrom(/** @type {Point} */ (this.clip.normal));
  }

  /** Show the pictures of the section that is open, and its cut; close it where there is none. @param {SectionInfo} [found] */
  #section(found) {
    if (!this.opened) return;
    const name = this.opened;
    const isCut = this.clip.kind === name;
    if (!found) {
      this.opened = "";
      this.sections.hidden = true;
      if (isCut) this.cut("none");
      return;
    }
    if (isCut) {
      const normal = unit(cross(found.across, found.axis));
      this.clip = { ...this.clip, normal, at: found.point.reduce((sum, mm, axis) => sum + mm * normal[axis], 0) };
      this.#applyCut();
    }
    const pictures = found.urls.map((url, n) => {
      const text = `${name.replaceAll("-", " ")}: section along it${n ? ", across the first" : ""}`;
      return made("figure", {}, made("img", { src: this.#address(url), alt: text }), made("figcaption", {}, text));
    });
    const close = button("Close", () => ((this.opened = ""), (this.sections.hidden = true), this.cut("none"), this.picture.focus()), { "aria-label": "Close the section" });
    this.sections.replaceChildren(...pictures, close);
    this.sections.hidden = false;
  }

  /** @param {HTMLButtonElement} [asked] */
  async fullVolume(asked) {
    const { volume } = this.scene ?? {};
    if (!volume?.full_url) return;
    if (asked) asked.disabled = true;
    this.#say("Loading the whole scan");
    await this.stage.setVolume(await this.#bytes(volume.full_url), volume.window_hu);
    this.cutFor = "whole";
    this.#say("");
    this.#refresh();
  }

  /** @param {"distance" | "angle" | null} kind */
  measure(kind) {
    this.measuring = kind;
    this.overlay.pending = [];
    this.measureButtons?.show(kind ?? "");
    this.root.classList.toggle("measuring", kind !== null);
    this.#hinted();
    this.stage.nv.drawScene();
  }

  #hinted() {
    const left = (this.measuring === "angle" ? 3 : 2) - this.overlay.pending.length;
    if (this.hint) this.hint.textContent = this.measuring ? `Click ${left} more place${left === 1 ? "" : "s"}, in a plane or on a surface` : "";
  }

  /** @param {Point} place LPS */
  addPlace(place) {
    if (!this.measuring) this.measure("distance");
    const { pending } = this.overlay;
    pending.push(place);
    const kind = this.measuring ?? "distance";
    if (pending.length === (kind === "angle" ? 3 : 2)) {
      const value = kind === "angle" ? angleDeg(pending[0], pending[1], pending[2]) : distanceMm(pending[0], pending[1]);
      const text = kind === "angle" ? `${value.toFixed(1)}°` : `${value.toFixed(2)} mm`;
      const one = { points: [...pending], kind, text, value };
      this.overlay.measures.push(one);
      const row = made("li", {}, `${kind} ${text} `);
      const drop = () => {
        this.overlay.measures.splice(this.overlay.measures.indexOf(one), 1);
        row.remove();
        this.stage.nv.drawScene();
      };
      row.append(button("×", drop, { "aria-label": `Remove ${kind} ${text}` }));
      this.measures?.append(row);
      this.overlay.pending = [];
    }
    this.#hinted();
    this.stage.nv.drawScene();
  }

  clearMeasures() {
    this.overlay.measures = [];
    this.measures?.replaceChildren();
    this.measure(null);
  }

  #listen() {
    const { nv } = this.stage;
    this.stage.drawn = () => {
      this.overlay.draw();
      this.#told();
    };
    let start = [0, 0];
    this.picture.addEventListener("pointerdown", (event) => (start = [event.clientX, event.clientY]));
    this.picture.addEventListener("pointerup", (event) => {
      if (event.button !== 0 || Math.hypot(event.clientX - start[0], event.clientY - start[1]) > CLICK_PX) return;
      const dpr = nv.uiData.dpr || 1;
      const tile = this.stage.tileAt(event.offsetX * dpr, event.offsetY * dpr);
      if (!tile) return;
      setTimeout(() => this.#clicked(tile.axCorSag === RENDER, event.offsetX * dpr, event.offsetY * dpr)); // after NiiVue has moved its crosshair
    });
    this.picture.addEventListener("wheel", (event) => {
      if (!event.ctrlKey) return;
      event.preventDefault();
      event.stopImmediatePropagation();
      this.enlarge(event.deltaY < 0 ? 1.15 : 1 / 1.15);
    }, { capture: true, passive: false });
    this.root.addEventListener("keydown", (event) => this.#key(event));
    document.addEventListener("batchone:goto", (event) => {
      const detail = /** @type {CustomEvent} */ (event).detail ?? {};
      if (!Array.isArray(detail.point) || detail.point.length !== 3 || !detail.point.every(Number.isFinite)) return;
      const same = (/** @type {FindingInfo} */ one) => one.id === detail.id || one.points.some((point) => distanceMm(point, detail.point) < 1e-3);
      this.chosen = this.scene?.findings.find(same) ?? null;
      this.#refresh();
      this.goto(detail.point);
      this.root.scrollIntoView({ block: "nearest" });
    });
  }

  /** @param {boolean} inSpace @param {number} x @param {number} y canvas px */
  #clicked(inSpace, x, y) {
    if (inSpace && !this.stage.pick(x, y)) return;
    this.#told();
    if (this.measuring) this.addPlace(this.stage.crosshair());
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const inside = /** @type {HTMLElement} */ (event.target);
    if (event.ctrlKey || event.metaKey || event.altKey || inside.matches("input:not([type=checkbox]), select, textarea")) return;
    const arrows = /** @type {Record<string, Point>} */ ({
      ArrowLeft: [-1, 0, 0], ArrowRight: [1, 0, 0], ArrowUp: [0, 0, 1], ArrowDown: [0, 0, -1], PageUp: [0, -1, 0], PageDown: [0, 1, 0],
    });
    const key = event.key.length === 1 ? event.key.toUpperCase() : event.key;
    const layout = Object.keys(LAYOUTS)[Number(key) - 1];
    const does = /** @type {Record<string, () => void>} */ ({
      "+": () => this.enlarge(1.25), "=": () => this.enlarge(1.25), "-": () => this.enlarge(1 / 1.25), F: () => this.fit(),
      D: () => this.measure("distance"), G: () => this.measure("angle"), M: () => this.addPlace(this.stage.crosshair()), Escape: () => this.measure(null),
      X: () => this.cut(this.clip.kind === "none" ? "sagittal" : "none"),
    });
    if (key in VIEWS) this.view(key);
    else if (key in arrows && (inside === this.picture || inside === this.root)) this.goto(plus(this.stage.crosshair(), arrows[key], event.shiftKey ? FINE_STEP_MM : STEP_MM));
    else if (layout) this.setLayout(layout);
    else if (key in does) does[key]();
    else return;
    event.preventDefault();
  }

  /** @param {string} text */
  #say(text) {
    this.state.textContent = text;
    this.state.hidden = text === "";
    this.state.classList.remove("failed");
  }

  /** @param {unknown} error */
  #failed(error) {
    this.#say(`Not shown: ${error instanceof Error ? error.message : String(error)}`);
    this.state.classList.add("failed");
  }

  /** What tests and other scripts of the page may ask for. */
  told() {
    const { stage } = this;
    const ready = this.open().catch((error) => {
      this.#failed(error);
      throw error;
    });
    let renewed = ready;
    document.addEventListener("batchone:newer", () => {
      renewed = renewed.then(() => this.renew()).catch((error) => {
        this.#failed(error); // what is drawn may be of the device before
        location.reload();
      });
    });
    return {
      ready,
      crosshair: () => stage.crosshair(),
      goto: (/** @type {Point} */ place) => this.goto(place),
      view: (/** @type {string} */ name) => this.view(name),
      layout: (/** @type {string} */ name) => this.setLayout(name),
      show: (/** @type {string} */ name, /** @type {object} */ look) => this.show(name, look),
      layer: (/** @type {string} */ name) => this.layer(name),
      cut: (/** @type {string} */ kind) => this.cut(kind),
      section: (/** @type {string} */ name) => this.section(name),
      fit: (all = false) => this.fit(all),
      surfaces: () => [...this.loaded.values()].map(({ info, mesh }) => ({ name: info.name, kind: info.kind, visible: mesh.visible, opacity: mesh.opacity })),
      outlines: () => this.overlay.outlined.map(({ name, colour }) => ({ name, colour })),
      /** Vertices of a surface as they are drawn, LPS mm. */
      positions: (/** @type {string} */ name) => Array.from(this.loaded.get(name)?.mesh.pts ?? [], (mm, k) => (k % 3 === 2 ? mm : -mm)),
      /** Where an LPS place is drawn: CSS px within the canvas, and the LPS place that NiiVue has under that pixel of a plane. */
      onScreen: (/** @type {Point} */ place) => (stage.paint(), stage.nv.screenSlices).map((tile, n) => {
        const [x, y] = stage.onScreen(tile, place);
        const dpr = stage.nv.uiData.dpr || 1;
        const under = tile.axCorSag === RENDER ? null : stage.nv.screenXY2mm(x, y, n);
        return { tile: tile.axCorSag, x: x / dpr, y: y / dpr, under: under && turned(under), box: tile.leftTopWidthHeight.map((px) => px / dpr) };
      }),
      letters: () => (stage.paint(), stage.nv).screenSlices.filter((tile) => tile.axCorSag === RENDER).flatMap((tile) => this.overlay.letters(tile)),
      measures: () => this.overlay.measures.map(({ kind, points, text }) => ({ kind, points, text })),
      /** When what was last told of is shown. */
      renewed: () => renewed,
      timings: () => ({ ...this.timings, bytes: this.bytes }),
      fullVolume: () => this.fullVolume(),
      valueAtCrosshair: () => stage.valueAtCrosshair(),
    };
  }
}

/** Mean of all vertices, in their frame. @param {Float32Array[]} all @returns {Point} */
function middleOf(all) {
  const sum = [0, 0, 0];
  for (const points of all) for (let k = 0; k < points.length; k++) sum[k % 3] += points[k];
  const count = all.reduce((total, points) => total + points.length / 3, 0);
  return /** @type {Point} */ (sum.map((mm) => mm / count));
}

/** The colour of a surface: one, or by its values. @param {SurfaceInfo} info @param {Surface} surface */
function coloured(info, surface) {
  const plain = hexColour(info.colour);
  if (!info.values || !surface.values) return Uint8Array.from([...plain, 255]);
  const { low, high } = info.values;
  const colours = new Uint8Array(4 * surface.values.length);
  surface.values.forEach((value, n) => colours.set([...(Number.isNaN(value) ? plain : scaleColour((value - low) / (high - low))), 255], 4 * n));
  return colours;
}

const root = document.getElementById("viewer");
if (root) Object.assign(window, { batchoneViewer: new Viewer(root).told() });
