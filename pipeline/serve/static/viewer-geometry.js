// Geometry without a screen: frames, meshes, contours, measures. Places are [x, y, z] in mm.

/** @typedef {[number, number, number]} Point */
/** @typedef {{points: Float32Array, faces: Uint32Array, values: Float32Array | null}} Surface */

const MZ3 = 0x5a4d;
const HAS = { faces: 1, vertices: 2, scalars: 8 };

/** LPS to RAS and back: half a turn about z. @param {ArrayLike<number>} place @returns {Point} */
export function turned(place) {
  return [-place[0], -place[1], place[2]];
}

/** @param {ArrayLike<number>} a @param {ArrayLike<number>} b @returns {Point} */
export function minus(a, b) {
  return [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
}

/** @param {ArrayLike<number>} a @param {ArrayLike<number>} b @param {number} share @returns {Point} a + share * b */
export function plus(a, b, share = 1) {
  return [a[0] + share * b[0], a[1] + share * b[1], a[2] + share * b[2]];
}

/** @param {ArrayLike<number>} a @param {ArrayLike<number>} b */
export function dot(a, b) {
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

/** @param {ArrayLike<number>} a @param {ArrayLike<number>} b @returns {Point} */
export function cross(a, b) {
  return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
}

/** @param {ArrayLike<number>} a @returns {Point} */
export function unit(a) {
  const length = Math.hypot(a[0], a[1], a[2]);
  return [a[0] / length, a[1] / length, a[2] / length];
}

/** Distance in mm. @param {Point} a @param {Point} b */
export function distanceMm(a, b) {
  return Math.hypot(...minus(a, b));
}

/** Angle at `corner` in degrees; not a number where two of the places are one. @param {Point} a @param {Point} corner @param {Point} b */
export function angleDeg(a, corner, b) {
  const one = minus(a, corner);
  const other = minus(b, corner);
  return (Math.atan2(Math.hypot(...cross(one, other)), dot(one, other)) * 180) / Math.PI || (Math.hypot(...one) && Math.hypot(...other) ? 0 : NaN);
}

/** "L 12.3  P 4.5  S 6.7" of an LPS place. @param {Point} place */
export function placeText(place) {
  const letters = [["L", "R"], ["P", "A"], ["S", "I"]];
  return place.map((mm, axis) => `${letters[axis][mm >= 0 ? 0 : 1]} ${Math.abs(mm).toFixed(1)}`).join("  ");
}

/** Read an MZ3 file. @param {ArrayBuffer} buffer @returns {Surface} */
export function readMz3(buffer) {
  const view = new DataView(buffer);
  if (view.getUint16(0, true) !== MZ3) throw new Error("not an MZ3 surface");
  const attributes = view.getUint16(2, true);
  if ((attributes & HAS.faces) === 0 || (attributes & HAS.vertices) === 0) throw new Error("an MZ3 file without a surface");
  const [faces, vertices, skip] = [4, 8, 12].map((at) => view.getUint32(at, true));
  const start = 16 + skip;
  const places = start + 12 * faces;
  const scalars = places + 12 * vertices;
  return {
    faces: new Uint32Array(buffer, start, 3 * faces),
    points: new Float32Array(buffer, places, 3 * vertices),
    values: attributes & HAS.scalars ? new Float32Array(buffer, scalars, vertices) : null,
  };
}

/** The wall of a rod and its two ends. @param {Point} start @param {Point} end @param {number} radius @returns {Surface} */
export function rod(start, end, radius, sides = 24) {
  const along = unit(minus(end, start));
  const helper = along.map(Math.abs).indexOf(Math.min(...along.map(Math.abs)));
  const first = unit(cross(along, [Number(helper === 0), Number(helper === 1), Number(helper === 2)]));
  const second = cross(along, first);
  const points = new Float32Array(3 * (2 * sides + 2));
  /** @type {number[]} */
  const faces = [];
  for (let n = 0; n < sides; n++) {
    const turn = (2 * Math.PI * n) / sides;
    const out = plus(first.map((v) => v * Math.cos(turn)), second, Math.sin(turn));
    points.set(plus(start, out, radius), 3 * n);
    points.set(plus(end, out, radius), 3 * (sides + n));
    const [a, b] = [n, (n + 1) % sides];
    faces.push(a, b, sides + b, a, sides + b, sides + a, b, a, 2 * sides, sides + a, sides + b, 2 * sides + 1);
  }
  points.set(start, 3 * 2 * sides);
  points.set(end, 3 * (2 * sides + 1));
  return { points, faces: Uint32Array.from(faces), values: null };
}

/** A square seen from both sides. @param {Point} middle @param {Point} normal @param {number} side @returns {Surface} */
export function square(middle, normal, side) {
  const helper = normal.map(Math.abs).indexOf(Math.min(...normal.map(Math.abs)));
  const first = unit(cross(normal, [Number(helper === 0), Number(helper === 1), Number(helper === 2)]));
  const second = cross(normal, first);
  const corners = [[-1, -1], [1, -1], [1, 1], [-1, 1]].map(([u, v]) => plus(plus(middle, first, (u * side) / 2), second, (v * side) / 2));
  const faces = Uint32Array.from([0, 1, 2, 0, 2, 3, 2, 1, 0, 3, 2, 0]);
  return { points: Float32Array.from(corners.flat()), faces, values: null };
}

/**
 * Where a surface meets the plane `axis` = `at`: pairs of ends, two other coordinates each.
 * @param {Surface} surface @param {number} axis 0, 1 or 2 @param {number} at @returns {Float32Array} (u, v, u, v) for each segment
 */
export function contour(surface, axis, at) {
  const { points, faces } = surface;
  const [u, v] = axis === 0 ? [1, 2] : axis === 1 ? [0, 2] : [0, 1];
  /** @type {number[]} */
  const found = [];
  for (let f = 0; f < faces.length; f += 3) {
    const [a, b, c] = [3 * faces[f], 3 * faces[f + 1], 3 * faces[f + 2]];
    const [ha, hb, hc] = [points[a + axis] - at, points[b + axis] - at, points[c + axis] - at];
    const above = Number(ha >= 0) + Number(hb >= 0) + Number(hc >= 0);
    if (above === 0 || above === 3) continue;
    if (ha >= 0 !== hb >= 0) crossing(points, a, b, ha / (ha - hb), u, v, found);
    if (hb >= 0 !== hc >= 0) crossing(points, b, c, hb / (hb - hc), u, v, found);
    if (hc >= 0 !== ha >= 0) crossing(points, c, a, hc / (hc - ha), u, v, found);
  }
  return Float32Array.from(found);
}

/** @param {Float32Array} points @param {number} a @param {number} b @param {number} share @param {number} u @param {number} v @param {number[]} found */
function crossing(points, a, b, share, u, v, found) {
  found.push(points[a + u] + share * (points[b + u] - points[a + u]), points[a + v] + share * (points[b + v] - points[a + v]));
}

// dark to light along viridis: told apart without red and green, and in grey
const STOPS = [
  [0, 68, 1, 84], [0.13, 71, 44, 122], [0.25, 59, 82, 139], [0.38, 44, 113, 142], [0.5, 33, 144, 141],
  [0.63, 39, 173, 129], [0.75, 92, 200, 99], [0.88, 170, 220, 50], [1, 253, 231, 37],
];

/** Colour of a share from 0 to 1 of a scale, 0 to 255 each. @param {number} share @returns {Point} */
export function scaleColour(share) {
  const at = Math.min(1, Math.max(0, share));
  const next = Math.max(1, STOPS.findIndex((stop) => stop[0] >= at));
  const [low, high] = [STOPS[next - 1], STOPS[next]];
  const part = (at - low[0]) / (high[0] - low[0]);
  return /** @type {Point} */ ([1, 2, 3].map((k) => Math.round(low[k] + part * (high[k] - low[k]))));
}

/** "#rrggbb" to numbers. @param {string} colour @returns {Point} */
export function hexColour(colour) {
  const value = Number.parseInt(colour.slice(1), 16);
  return [(value >> 16) & 255, (value >> 8) & 255, value & 255];
}
