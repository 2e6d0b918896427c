// What the viewer uses of niivue.js (NiiVue 0.69 and gl-matrix), for the type checker.

export type Tile = {
  leftTopWidthHeight: number[];
  axCorSag: number;
  leftTopMM: number[];
  fovMM: number[];
};

export class NVMesh {
  constructor(
    points: Float32Array,
    faces: Uint32Array,
    name: string,
    rgba255: Uint8Array,
    opacity: number,
    visible: boolean,
    gl: WebGL2RenderingContext,
  );
  name: string;
  visible: boolean;
  opacity: number;
  rgba255: Uint8Array;
  meshShaderIndex: number;
  pts: Float32Array;
  tris?: Uint32Array;
  updateMesh(gl: WebGL2RenderingContext): void;
  unloadMesh(gl: WebGL2RenderingContext): void;
}

export class NVImage {
  static loadFromUrl(options: {
    url: ArrayBuffer;
    name: string;
    colormap: string;
    cal_min: number;
    cal_max: number;
  }): Promise<NVImage>;
  cal_min: number;
  cal_max: number;
  mm2vox(mm: number[], frac?: boolean): ArrayLike<number>;
  getValue(x: number, y: number, z: number): number;
  dimsRAS?: number[];
}

export type MeshShader = {
  Name: string;
  Frag: string;
  shader: { program: WebGLProgram; uniforms: Record<string, WebGLUniformLocation | null>; use(gl: WebGL2RenderingContext): void };
};

export class Niivue {
  constructor(options: Record<string, unknown>);
  gl: WebGL2RenderingContext;
  canvas: HTMLCanvasElement | null;
  volumes: NVImage[];
  meshes: NVMesh[];
  meshShaders: MeshShader[];
  pickingMeshShader?: MeshShader["shader"];
  screenSlices: Tile[];
  scene: {
    crosshairPos: ArrayLike<number>;
    renderAzimuth: number;
    renderElevation: number;
    volScaleMultiplier: number;
    pan2Dxyzmm: number[];
  };
  opts: Record<string, unknown>;
  uiData: { dpr?: number; mouseDepthPicker: boolean };
  mousePos: number[];
  onLocationChange: (location: unknown) => void;
  keyDownListener: (event: KeyboardEvent) => void;
  keyUpListener: (event: KeyboardEvent) => void;
  resetBriCon: (event: unknown) => void;
  drawScene: () => void;
  refreshLayers: (image: NVImage, layer: number) => void;
  blurShader: MeshShader["shader"];
  drawImage3D: (...args: unknown[]) => void;
  drawMesh3D: (depthTest?: boolean, alpha?: number, mvp?: unknown, model?: unknown, normal?: unknown, is2D?: boolean) => void;
  calculateMvpMatrix: (unused: unknown, tile: number[], azimuth: number, elevation: number) => Float32Array[];
  draw2D: (tile: number[], kind: number, mm?: number, size?: number[]) => void;
  screenFieldOfViewExtendedMM: (kind: number) => { mnMM: Float32Array; mxMM: Float32Array; rotation: Float32Array; fovMM: Float32Array };
  attachToCanvas(canvas: HTMLCanvasElement, antialias: boolean): Promise<Niivue>;
  addVolume(volume: NVImage): void;
  removeVolume(volume: NVImage): void;
  createCustomMeshShader(fragment: string, name: string): MeshShader;
  setCustomLayout(layout: { sliceType: number; position: number[] }[]): void;
  setRenderAzimuthElevation(azimuth: number, elevation: number): void;
  mm2frac(mm: number[]): ArrayLike<number>;
  frac2mm(frac: ArrayLike<number>): ArrayLike<number>;
  screenXY2mm(x: number, y: number, tile?: number): ArrayLike<number>;
  updateGLVolume(): void;
}

export const mat4: {
  create(): Float32Array;
  ortho(out: Float32Array, l: number, r: number, b: number, t: number, near: number, far: number): Float32Array;
  translate(out: Float32Array, a: Float32Array, v: number[]): Float32Array;
  rotateX(out: Float32Array, a: Float32Array, radians: number): Float32Array;
  rotateZ(out: Float32Array, a: Float32Array, radians: number): Float32Array;
  invert(out: Float32Array, a: Float32Array): Float32Array;
  transpose(out: Float32Array, a: Float32Array): Float32Array;
  multiply(out: Float32Array, a: Float32Array, b: Float32Array): Float32Array;
};
