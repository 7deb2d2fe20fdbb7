// Waveform, spectrogram and tokens over one axis of time, and the two lattices.

const SIZE = 512; // of the Fourier transform
const ROWS = 128;
const SVG = "http://www.w3.org/2000/svg";
const TRAIL = 24; // tokens whose cells still glow

const cosines = Float32Array.from({ length: SIZE }, (_, i) => Math.cos((2 * Math.PI * i) / SIZE));
const sines = Float32Array.from({ length: SIZE }, (_, i) => Math.sin((2 * Math.PI * i) / SIZE));

/** Magnitudes in dB of ROWS bands from 0 to half the rate, of SIZE samples around a place. */
function spectrum(samples, centre) {
  const real = new Float32Array(SIZE);
  const imaginary = new Float32Array(SIZE);
  for (let i = 0; i < SIZE; i++) {
    let reversed = 0;
    for (let bit = 1, place = SIZE / 2; bit < SIZE; bit *= 2, place /= 2) if (i & bit) reversed += place;
    real[reversed] = (samples[centre - SIZE / 2 + i] ?? 0) * (0.5 - 0.5 * cosines[i]);
  }
  for (let half = 1; half < SIZE; half *= 2) {
    for (let start = 0; start < SIZE; start += 2 * half) {
      for (let k = 0; k < half; k++) {
        const [a, b, turn] = [start + k, start + k + half, (k * SIZE) / (2 * half)];
        const x = real[b] * cosines[turn] + imaginary[b] * sines[turn];
        const y = imaginary[b] * cosines[turn] - real[b] * sines[turn];
        [real[b], imaginary[b]] = [real[a] - x, imaginary[a] - y];
        [real[a], imaginary[a]] = [real[a] + x, imaginary[a] + y];
      }
    }
  }
  const bins = SIZE / 2 / ROWS;
  return Float32Array.from({ length: ROWS }, (_, row) => {
    let power = 1e-9;
    for (let bin = row * bins; bin < (row + 1) * bins; bin++) power += real[bin] ** 2 + imaginary[bin] ** 2;
    return 10 * Math.log10(power);
  });
}

/** Colour of a share within 0 and 1: night, violet, orange, cream. */
function heat(share) {
  const stops = [
    [17, 12, 40],
    [98, 38, 114],
    [226, 91, 60],
    [255, 238, 186],
  ];
  const place = Math.max(0, Math.min(0.9999, share)) * (stops.length - 1);
  const [low, high, part] = [stops[Math.floor(place)], stops[Math.floor(place) + 1], place % 1];
  return low.map((value, i) => value + part * (high[i] - value));
}

/** Colour of a lattice point: its direction is the hue, its distance from the centre the strength. */
export function colourOf([x, y], light = 58) {
  const hue = (Math.atan2(y, x) * 180) / Math.PI + 180;
  return `hsl(${hue} ${25 + 60 * Math.min(1, Math.hypot(x, y) / 4)}% ${light}%)`;
}

/** The spectrogram of a recording, a column a frame, worked out where it is looked at. */
export class Spectrogram {
  constructor(samples, hop) {
    Object.assign(this, { samples, hop, columns: new Map() });
  }

  column(frame) {
    let pixels = this.columns.get(frame);
    if (!pixels) {
      pixels = spectrum(this.samples, Math.round((frame + 0.5) * this.hop)).map((level) => (level + 45) / 75);
      this.columns.set(frame, pixels);
    }
    return pixels;
  }
}

/** A canvas as large as it is shown. */
function prepare(canvas) {
  const scale = window.devicePixelRatio || 1;
  const [width, height] = [Math.round(canvas.clientWidth * scale), Math.round(canvas.clientHeight * scale)];
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  return { context, width, height, scale };
}

/** Draw the frames `first` to `first + count` of a recording, its tokens below, and the places of sound and choice. */
export function drawTimeline({ wave, spectrogram, tokens }, state, view) {
  const { first, count } = view;
  const toX = (frame, width) => ((frame - first) / count) * width;
  drawWave(prepare(wave), state, view, toX);
  drawSpectrogram(prepare(spectrogram), state, view, toX);
  drawTokens(prepare(tokens), state, view, toX);
}

function drawMarks({ context, width, height, scale }, { playhead }, toX) {
  context.fillStyle = "#0b7285";
  context.fillRect(toX(playhead, width) - scale, 0, 2 * scale, height);
}

function drawWave(canvas, { samples, hop, playhead }, { first, count }, toX) {
  const { context, width, height } = canvas;
  context.fillStyle = "#e2793b";
  for (let x = 0; x < width; x++) {
    const start = Math.floor((first + (x / width) * count) * hop);
    const stop = Math.floor((first + ((x + 1) / width) * count) * hop);
    let [low, high] = [0, 0];
    for (let i = Math.max(0, start); i < Math.min(stop, samples.length); i++) {
      low = Math.min(low, samples[i]);
      high = Math.max(high, samples[i]);
    }
    const size = Math.max(1, ((high - low) / 2) * height);
    context.fillRect(x, (height / 2) * (1 - high), 1, size);
  }
  drawMarks(canvas, { playhead }, toX);
}

function drawSpectrogram(canvas, { spectrogram, numFrames, playhead }, { first, count }, toX) {
  const [begin, stop] = [Math.max(0, Math.floor(first)), Math.min(numFrames, Math.ceil(first + count))];
  if (stop > begin) {
    const image = new ImageData(stop - begin, ROWS);
    for (let frame = begin; frame < stop; frame++) {
      spectrogram.column(frame).forEach((share, row) => {
        const [r, g, b] = heat(share);
        image.data.set([r, g, b, 255], 4 * ((ROWS - 1 - row) * (stop - begin) + frame - begin));
      });
    }
    const sheet = new OffscreenCanvas(stop - begin, ROWS);
    sheet.getContext("2d").putImageData(image, 0, 0);
    const { context, width, height } = canvas;
    const left = toX(begin, width);
    context.drawImage(sheet, left, 0, toX(stop, width) - left, height);
  }
  drawMarks(canvas, { playhead }, toX);
}

function drawTokens(canvas, { points, indices, selected, changed, playhead }, { first, count }, toX) {
  const { context, width, height, scale } = canvas;
  const rows = points.length;
  for (let frame = Math.max(0, Math.floor(first)); frame < Math.min(first + count, indices[0].length); frame++) {
    const [left, right] = [toX(frame, width), toX(frame + 1, width)];
    for (let group = 0; group < rows; group++) {
      context.fillStyle = colourOf(points[group][indices[group][frame]]);
      context.fillRect(left, (group * height) / rows, right - left + 0.5, height / rows - scale);
    }
    if (changed.has(frame)) {
      context.fillStyle = "#111";
      context.fillRect(left, height / 2 - 2 * scale, right - left, 4 * scale);
    }
  }
  context.strokeStyle = "#111";
  context.lineWidth = 2 * scale;
  context.strokeRect(toX(selected, width), scale, Math.max(3 * scale, width / count), height - 2 * scale);
  drawMarks(canvas, { playhead }, toX);
}

/** One lattice: its cells as SVG, which glow as their points are used. */
export class LatticeView {
  constructor(svg, points, neighbours, onpick) {
    Object.assign(this, { svg, points, neighbours, cells: [] });
    const reach = Math.max(...points.flat().map(Math.abs)) + 0.6;
    svg.setAttribute("viewBox", `${-reach} ${-reach} ${2 * reach} ${2 * reach}`);
    svg.replaceChildren();
    points.forEach(([x, y], index) => {
      const cell = document.createElementNS(SVG, "path");
      cell.setAttribute("d", `M${x} ${-y - 0.48}L${x + 0.48} ${-y}L${x} ${-y + 0.48}L${x - 0.48} ${-y}Z`);
      cell.addEventListener("click", () => onpick(index));
      this.cells.push(cell);
      svg.append(cell);
    });
  }

  /** Show the token of a frame, those before it fading, and its neighbours. */
  show(indices, frame) {
    const age = new Map();
    for (let back = Math.min(TRAIL - 1, frame); back >= 0; back--) age.set(indices[frame - back], back);
    const near = new Set(this.neighbours[indices[frame]]);
    this.svg.append(this.cells[indices[frame]]); // on top of the others
    this.cells.forEach((cell, index) => {
      const glow = age.has(index) ? 1 - age.get(index) / TRAIL : 0;
      cell.setAttribute("fill", colourOf(this.points[index], 58));
      cell.setAttribute("fill-opacity", 0.13 + 0.87 * glow ** 2);
      cell.setAttribute("class", index === indices[frame] ? "current" : near.has(index) ? "near" : "");
    });
  }

  /** The neighbour of a point that lies furthest in a direction, or the point itself. */
  towards(index, [dx, dy]) {
    const along = (other) => {
      const [x, y] = this.points[other].map((value, i) => value - this.points[index][i]);
      return (x * dx + y * dy) / Math.hypot(x, y) + 0.01 * (x * dy - y * dx);
    };
    return this.neighbours[index].reduce(
      (best, one) => (along(one) > (best === index ? 0.1 : along(best)) ? one : best),
      index,
    );
  }
}
