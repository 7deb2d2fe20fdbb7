// Sound from one rate to another by a windowed sinc: flat to 0.91 of the lower half rate, nothing above it.

const CROSSINGS = 96; // zeros of the sinc on each side
const CUTOFF = 0.957; // share of the lower half rate
const BETA = 13; // of the Kaiser window; with these three, what soxr gives within 1e-4

function bessel(x) {
  let [sum, term] = [1, 1];
  for (let k = 1; term > 1e-12 * sum; k++) sum += term *= (x / (2 * k)) ** 2;
  return sum;
}

function greatestDivisor(a, b) {
  return b ? greatestDivisor(b, a % b) : a;
}

/** Samples at the rate `to` of samples at the rate `from`; whole numbers of Hz. */
export function resample(samples, from, to) {
  if (from === to) return samples;
  const divisor = greatestDivisor(from, to);
  const [phases, step] = [to / divisor, from / divisor]; // output i lies at i * step / phases
  const band = CUTOFF * Math.min(1, to / from); // of the half rate of the input
  const half = Math.ceil(CROSSINGS / Math.min(1, to / from));
  const kernels = Array.from({ length: phases }, (_, phase) =>
    Float32Array.from({ length: 2 * half }, (_, tap) => {
      const x = tap - half + 1 - phase / phases;
      const window = bessel(BETA * Math.sqrt(Math.max(0, 1 - (x / half) ** 2))) / bessel(BETA);
      return window * band * (x === 0 ? 1 : Math.sin(Math.PI * band * x) / (Math.PI * band * x));
    }),
  );
  const out = new Float32Array(Math.round((samples.length * to) / from));
  for (let i = 0; i < out.length; i++) {
    const place = i * step;
    const kernel = kernels[place % phases];
    const first = Math.floor(place / phases) - half + 1;
    let sum = 0;
    for (let tap = Math.max(0, -first); tap < Math.min(2 * half, samples.length - first); tap++) {
      sum += kernel[tap] * samples[first + tap];
    }
    out[i] = sum;
  }
  return out;
}
