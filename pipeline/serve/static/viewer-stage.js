// The picture: NiiVue with our camera, our light on surfaces, a plane that cuts them, and the way from places to the screen.
// NiiVue's frame is RAS; every place that comes in or goes out here is LPS.

import { Niivue, NVImage, NVMesh, mat4 } from "./niivue.js";
import { turned } from "./viewer-geometry.js";

/** @typedef {import("./viewer-geometry.js").Point} Point */
/** @typedef {import("./viewer-geometry.js").Surface} Surface */

export const AXIAL = 0;
export const CORONAL = 1;
export const SAGITTAL = 2;
export const RENDER = 4;

/** Where the tiles lie: type, left, top, width, height as shares of the canvas. @type {Record<string, number[][]>} */
export const LAYOUTS = {
  four: [[AXIAL, 0, 0, 0.5, 0.5], [RENDER, 0.5, 0, 0.5, 0.5], [CORONAL, 0, 0.5, 0.5, 0.5], [SAGITTAL, 0.5, 0.5, 0.5, 0.5]],
  large: [[RENDER, 0, 0, 0.68, 1], [AXIAL, 0.68, 0, 0.32, 1 / 3], [CORONAL, 0.68, 1 / 3, 0.32, 1 / 3], [SAGITTAL, 0.68, 2 / 3, 0.32, 1 / 3]],
  "3d": [[RENDER, 0, 0, 1, 1]],
  axial: [[AXIAL, 0, 0, 1, 1]],
  coronal: [[CORONAL, 0, 0, 1, 1]],
  sagittal: [[SAGITTAL, 0, 0, 1, 1]],
};

/** Azimuth and elevation of the six standard views, by the side that is looked at. @type {Record<string, [number, number]>} */
export const VIEWS = { A: [180, 0], P: [0, 0], L: [90, 0], R: [270, 0], S: [0, 90], I: [180, -90] };

const NO_CLIP = [0, 0, 0, 1];
const BACKGROUND = [0.027, 0.031, 0.039, 1];
const DEPTH = 4; // of the camera's room, in radii of the scene

const HEAD = `#version 300 es
precision highp int;
precision highp float;
uniform float opacity;
uniform vec4 clip;
uniform mat4 normMtx;
in vec4 vClr;
in vec3 vN;
in vec4 vP;
out vec4 color;
`;
// light: a key from above left of whoever looks, a soft fill, darker rims; facets where a smooth normal would round an edge off
const LIGHT = `${HEAD}
void main() {
  if (dot(vP.xyz, clip.xyz) > clip.w) discard;
  vec3 n = normalize(vN);
  vec3 facet = normalize((normMtx * vec4(cross(dFdx(vP.xyz), dFdy(vP.xyz)), 0.0)).xyz);
  if (!gl_FrontFacing) { color = vec4(vClr.rgb * 0.42 + 0.02, opacity); return; }
  if (facet.z > 0.0) facet = -facet;
  if (CREASED && dot(n, facet) < 0.93) n = facet;
  float key = max(dot(n, normalize(vec3(-0.45, 0.62, -0.74))), 0.0);
  float fill = 0.5 + 0.5 * dot(n, normalize(vec3(0.7, -0.25, -0.6)));
  float facing = clamp(-n.z, 0.0, 1.0);
  vec3 lit = vClr.rgb * (0.16 + 0.66 * key + 0.26 * fill) * mix(0.62, 1.0, smoothstep(0.0, 0.55, facing));
  float shine = GLOSS * pow(max(dot(n, normalize(vec3(-0.28, 0.38, -1.0))), 0.0), 48.0);
  color = vec4(lit + shine, opacity);
}`;
// depth in four bytes, as NiiVue reads them: (w + z / 256 + y / 256^2 + x / 256^3) / 255
const DEPTH_OF = `${HEAD}
void main() {
  if (dot(vP.xyz, clip.xyz) > clip.w) discard;
  float w = gl_FragCoord.z * 255.0 + 0.0 * opacity;
  float z = fract(w) * 256.0;
  float y = fract(z) * 256.0;
  float x = fract(y) * 256.0;
  color = floor(vec4(x, y, z, w)) / 255.0;
}`;

export class Stage {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.nv = new Niivue({
      backColor: BACKGROUND, crosshairWidth: 0, show3Dcrosshair: false, isOrientCube: false, isRadiologicalConvention: true,
      sagittalNoseLeft: true, isSliceMM: true, meshThicknessOn2D: 0, dragAndDropEnabled: false, isColorbar: false,
      isOrientationTextVisible: false, loadingText: "", logLevel: "silent", clipPlaneHotKey: "", cycleClipPlaneHotKey: "",
      viewModeHotKey: "", multiplanarPadPixels: 0, isCornerOrientationText: false, scrollRequiresFocus: false,
      mouseEventConfig: { leftButton: { primary: 8, withShift: 3, withCtrl: 3 }, rightButton: 3, centerButton: 3 },
    });
    /** @type {Point} */
    this.pivot = [0, 0, 0];
    this.radius = 100;
    /** The box of all surfaces, LPS. @type {[Point, Point]} */
    this.box = [[Infinity, Infinity, Infinity], [-Infinity, -Infinity, -Infinity]];
    this.clip = NO_CLIP;
    this.waiting = 0; // for the next frame
    /** Draw now. */
    this.paint = () => {};
    this.layout = "four";
    /** @type {Set<NVMesh>} */
    this.creased = new Set();
    /** Called after each drawing. @type {() => void} */
    this.drawn = () => {};
  }

  async open() {
    const { nv } = this;
    nv.keyDownListener = () => {}; // our own keys
    nv.keyUpListener = () => {};
    const focus = this.canvas.focus.bind(this.canvas);
    this.canvas.focus = (how) => focus({ preventScroll: true, ...how }); // NiiVue asks for it in the middle of a click
    nv.meshShaders.length = 1; // we bring our own: no others are compiled
    nv.resetBriCon = () => {}; // a double click is no reason to change the window
    await nv.attachToCanvas(this.canvas, true);
    this.#noGradients();
    nv.setRenderAzimuthElevation(...VIEWS.A);
    this.#light();
    this.#camera();
    this.#planes();
    this.setLayout(this.layout);
    const draw = nv.drawScene.bind(nv);
    this.paint = () => {
      cancelAnimationFrame(this.waiting);
      this.waiting = 0;
      draw();
      this.drawn();
    };
    nv.drawScene = () => {
      this.waiting ||= requestAnimationFrame(this.paint); // once a frame, however often it is asked for
    };
  }

  /** Leave out the gradients of the scan: two passes through all of its voxels, for a picture in 3D that is not drawn. */
  #noGradients() {
    const { nv } = this;
    const { gl, blurShader } = nv;
    const [refresh, use] = [nv.refreshLayers.bind(nv), blurShader.use.bind(blurShader)];
    blurShader.use = (of) => {
      use(of);
      gl.drawArrays = () => {}; // what follows in a refresh are those passes
      gl.checkFramebufferStatus = () => gl.FRAMEBUFFER_COMPLETE;
    };
    nv.refreshLayers = (...args) => {
      try {
        refresh(...args);
      } finally {
        for (const name of ["drawArrays", "checkFramebufferStatus"]) Reflect.deleteProperty(gl, name);
      }
    };
  }

  #light() {
    const { nv } = this;
    const made = (/** @type {string} */ text, /** @type {string} */ name) => nv.createCustomMeshShader(text, name);
    const smooth = made(LIGHT.replace("CREASED", "false").replace("GLOSS", "0.05"), "bone");
    const creased = made(LIGHT.replace("CREASED", "true").replace("GLOSS", "0.22"), "device");
    const depth = made(DEPTH_OF, "depth");
    nv.meshShaders.push(smooth, creased);
    nv.pickingMeshShader = depth.shader;
    this.shaders = { smooth: nv.meshShaders.indexOf(smooth), creased: nv.meshShaders.indexOf(creased), all: [smooth, creased, depth] };
    this.setClip(null);
    nv.drawImage3D = () => {}; // the scan is for the planes: in 3D it would hide the surfaces
    const draw = nv.drawMesh3D.bind(nv);
    const { gl } = nv;
    nv.drawMesh3D = (...args) => {
      const all = nv.meshes;
      const picking = nv.uiData.mouseDepthPicker;
      const opaque = all.filter((mesh) => picking || mesh.opacity >= 1);
      const opacities = all.map((mesh) => mesh.opacity);
      const enable = gl.enable.bind(gl);
      if (this.clip !== NO_CLIP) gl.enable = (what) => (what === gl.CULL_FACE ? gl.disable(what) : enable(what)); // cut: look inside
      try {
        if (picking) for (const mesh of opaque) mesh.opacity = 1;
        nv.meshes = opaque;
        draw(...args);
        for (const mesh of picking ? [] : all.filter((one) => one.opacity < 1)) {
          nv.meshes = [mesh];
          const { opacity } = mesh;
          mesh.opacity = 1; // its nearest face first, in depth alone: what lies behind it in the same surface does not show
          gl.colorMask(false, false, false, false);
          draw(...args);
          gl.colorMask(true, true, true, true);
          mesh.opacity = opacity;
          draw(...args);
        }
      } finally {
        gl.enable = enable;
        gl.colorMask(true, true, true, true);
        gl.depthMask(true);
        nv.meshes = all;
        all.forEach((mesh, n) => (mesh.opacity = opacities[n]));
      }
    };
  }

  /** Planes that fill their tiles, whatever the shape of the scan. */
  #planes() {
    const { nv } = this;
    let aspect = 1;
    const draw = nv.draw2D.bind(nv);
    nv.draw2D = (tile, kind, mm) => {
      aspect = tile[2] / tile[3];
      draw(tile, kind, mm, [tile[2], tile[3]]);
    };
    const seen = nv.screenFieldOfViewExtendedMM.bind(nv);
    nv.screenFieldOfViewExtendedMM = (kind) => {
      const { mnMM, mxMM, rotation, fovMM } = seen(kind);
      const wider = Math.max(0, fovMM[1] * aspect - fovMM[0]);
      const taller = Math.max(0, fovMM[0] / aspect - fovMM[1]);
      [wider, taller].forEach((more, k) => {
        mnMM[k] -= more / 2;
        mxMM[k] += more / 2;
        fovMM[k] += more;
      });
      return { mnMM, mxMM, rotation, fovMM };
    };
  }

  /** An orthographic camera about our own pivot, deep enough for the whole scene however near it is. */
  #camera() {
    this.nv.calculateMvpMatrix = (_, tile, azimuth, elevation) => {
      const [, , width, height] = tile;
      const { reach } = this;
      const half = this.radius / this.nv.scene.volScaleMultiplier;
      const [x, y] = width < height ? [half, (half * height) / width] : [(half * width) / height, half];
      const middle = (DEPTH / 2) * reach;
      const projection = mat4.ortho(mat4.create(), -x, x, -y, y, DEPTH * reach, 0);
      const model = mat4.create();
      model[0] = -1;
      mat4.translate(model, model, [0, 0, -middle]);
      mat4.rotateX(model, model, ((270 - elevation) * Math.PI) / 180);
      mat4.rotateZ(model, model, ((azimuth - 180) * Math.PI) / 180);
      mat4.translate(model, model, turned(this.pivot).map((mm) => -mm));
      const normal = mat4.transpose(mat4.create(), /** @type {Float32Array} */ (mat4.invert(mat4.create(), model)));
      return [mat4.multiply(mat4.create(), projection, model), model, normal];
    };
  }

  /** What the 3D view turns about and how far it sees. @param {Point} pivot @param {number} radius */
  lookAt(pivot, radius) {
    this.pivot = pivot;
    this.radius = radius;
    this.nv.scene.volScaleMultiplier = 1;
    this.nv.drawScene();
  }

  /** @param {ArrayBuffer} nifti @param {number[]} windowHu */
  async setVolume(nifti, windowHu) {
    const { nv } = this;
    const at = nv.volumes.length ? this.crosshair() : null;
    const image = await NVImage.loadFromUrl({ url: nifti, name: "scan.nii.gz", colormap: "gray", cal_min: windowHu[0], cal_max: windowHu[1] });
    for (const old of [...nv.volumes]) nv.removeVolume(old);
    nv.addVolume(image);
    if (at) this.moveTo(at);
  }

  /** @param {number} low @param {number} high */
  setWindow(low, high) {
    for (const image of this.nv.volumes) [image.cal_min, image.cal_max] = [low, high];
    this.nv.updateGLVolume();
  }

  /** @param {string} name @param {Surface} surface in RAS @param {Uint8Array} rgba one colour, or one for each vertex
   * @param {{opacity: number, visible: boolean, creased: boolean}} look */
  addSurface(name, surface, rgba, look) {
    const mesh = new NVMesh(surface.points, surface.faces, name, rgba, look.opacity, look.visible, this.nv.gl);
    const { shaders } = this;
    if (shaders) mesh.meshShaderIndex = look.creased ? shaders.creased : shaders.smooth;
    this.nv.meshes.push(mesh); // NiiVue's own way would also prepare the scan again
    const [low, high] = this.box;
    surface.points.forEach((mm, k) => {
      const at = k % 3 === 2 ? mm : -mm;
      if (at < low[k % 3]) low[k % 3] = at;
      if (at > high[k % 3]) high[k % 3] = at;
    });
    return mesh;
  }

  /** @param {import("./niivue.js").NVMesh} mesh */
  removeSurface(mesh) {
    this.nv.meshes = this.nv.meshes.filter((one) => one !== mesh);
    mesh.unloadMesh(this.nv.gl);
  }

  /** Radius of a ball about the pivot that holds every surface. */
  get reach() {
    const sides = this.pivot.map((mm, axis) => Math.max(Math.abs(this.box[0][axis] - mm), Math.abs(this.box[1][axis] - mm)));
    return Number.isFinite(sides[0]) ? Math.max(1, Math.hypot(...sides)) : this.radius;
  }

  /** Leave away what lies beyond a plane: LPS normal, and how far along it. @param {{normal: Point, at: number} | null} plane */
  setClip(plane) {
    this.clip = plane ? [...turned(plane.normal), plane.at] : NO_CLIP;
    const { gl } = this.nv;
    for (const { shader } of this.shaders?.all ?? []) {
      shader.use(gl);
      gl.uniform4fv(shader.uniforms.clip, this.clip);
    }
    this.nv.drawScene();
  }

  /** @param {string} name */
  setLayout(name) {
    this.layout = name;
    this.nv.setCustomLayout(LAYOUTS[name].map(([sliceType, ...position]) => ({ sliceType, position })));
    this.nv.drawScene();
  }

  /** Look at the patient from one side. @param {string} name one of A P L R S I */
  view(name) {
    this.nv.setRenderAzimuthElevation(...VIEWS[name]);
    this.nv.drawScene();
  }

  /** Look from a direction, LPS. @param {Point} from @param {number} [steepest] degrees above or below */
  viewFrom(from, steepest = 90) {
    const elevation = (Math.atan2(from[2], Math.hypot(from[0], from[1])) * 180) / Math.PI;
    const azimuth = (Math.atan2(from[0], from[1]) * 180) / Math.PI;
    this.nv.setRenderAzimuthElevation((azimuth + 360) % 360, Math.min(steepest, Math.max(-steepest, elevation)));
    this.nv.drawScene();
  }

  /** @returns {Point} LPS */
  crosshair() {
    return turned(this.nv.frac2mm(this.nv.scene.crosshairPos));
  }

  /** Put the crosshair at a place, and into the middle of planes that show a part only. @param {Point} place LPS */
  moveTo(place) {
    this.nv.scene.crosshairPos = this.nv.mm2frac(turned(place));
    if (this.zoom > 1) this.setZoom(this.zoom);
    this.nv.drawScene();
  }

  /** Of the planes. */
  get zoom() {
    return this.nv.scene.pan2Dxyzmm[3];
  }

  /** Enlarge the planes about the crosshair. @param {number} zoom */
  setZoom(zoom) {
    const to = Math.min(16, Math.max(1, zoom));
    const [at, middle] = [this.nv.frac2mm(this.nv.scene.crosshairPos), this.nv.frac2mm([0.5, 0.5, 0.5])];
    const pan = to === 1 ? [0, 0, 0] : [0, 1, 2].map((k) => middle[k] - at[k] * to);
    this.nv.scene.pan2Dxyzmm = [...pan, to];
    this.nv.drawScene();
  }

  /** HU at the crosshair; null outside the scan that is shown. */
  valueAtCrosshair() {
    const image = this.nv.volumes[0];
    const share = this.nv.scene.crosshairPos;
    if (!image || [0, 1, 2].some((k) => share[k] < 0 || share[k] > 1)) return null;
    const [x, y, z] = Array.from(image.mm2vox(turned(this.crosshair())));
    return image.getValue(x, y, z);
  }

  /** The place of a surface under a pointer in the 3D tile, or null. @param {number} x canvas px @param {number} y */
  pick(x, y) {
    const before = Array.from(this.nv.scene.crosshairPos);
    this.nv.mousePos = [x, y];
    this.nv.uiData.mouseDepthPicker = true;
    this.paint();
    this.nv.drawScene();
    const after = Array.from(this.nv.scene.crosshairPos);
    return after.some((share, k) => share !== before[k]) ? this.crosshair() : null;
  }

  /** Canvas px of an LPS place in a tile. @param {import("./niivue.js").Tile} tile @param {Point} place @returns {[number, number]} */
  onScreen(tile, place) {
    const [left, top, width, height] = tile.leftTopWidthHeight;
    const ras = turned(place);
    if (tile.axCorSag === RENDER) {
      const { renderAzimuth, renderElevation } = this.nv.scene;
      const m = this.nv.calculateMvpMatrix(null, tile.leftTopWidthHeight, renderAzimuth, renderElevation)[0];
      const [x, y] = [0, 1].map((row) => m[row] * ras[0] + m[4 + row] * ras[1] + m[8 + row] * ras[2] + m[12 + row]);
      return [left + ((x + 1) / 2) * width, top + ((1 - y) / 2) * height];
    }
    const [u, v] = tile.axCorSag === AXIAL ? [ras[0], ras[1]] : tile.axCorSag === CORONAL ? [ras[0], ras[2]] : [ras[1], ras[2]];
    return [left + ((u - tile.leftTopMM[0]) / tile.fovMM[0]) * width, top + (1 - (v - tile.leftTopMM[1]) / tile.fovMM[1]) * height];
  }

  /** The tile under canvas px, or null. @param {number} x @param {number} y */
  tileAt(x, y) {
    return this.nv.screenSlices.find(({ leftTopWidthHeight: [l, t, w, h] }) => x >= Math.min(l, l + w) && x <= Math.max(l, l + w) && y >= t && y <= t + h) ?? null;
  }
}
