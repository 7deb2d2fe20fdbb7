// Codes of a sentence from the language model, one after another; see docs/onnx.md for its inputs.

const [BOS, AUDIO] = [1, 3];
const SPACES = 128; // room for keys and values grows in steps of so many ids

/** Numbers within 0 and 1 that follow from a seed (mulberry32). */
function randomNumbers(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Which of the scores is drawn: at a temperature, among the likeliest ones of a total probability. */
export function draw(scores, temperature, topP, random) {
  const highest = scores.reduce((a, b) => Math.max(a, b));
  if (!Number.isFinite(highest)) throw new Error("The language model gives no finite scores; its file is damaged.");
  const chances = [];
  let total = 0;
  for (let i = 0; i < scores.length; i++) {
    const chance = Math.exp((scores[i] - highest) / temperature);
    total += chance;
    if (chance > 1e-9) chances.push([chance, i]);
  }
  chances.sort((a, b) => b[0] - a[0]);
  let kept = 0;
  const cut = chances.findIndex(([chance]) => (kept += chance) >= topP * total) + 1 || chances.length;
  let left = random() * chances.slice(0, cut).reduce((sum, [chance]) => sum + chance, 0);
  return (chances.slice(0, cut).find(([chance]) => (left -= chance) <= 0) ?? chances[0])[1];
}

/** Positions of the pieces: the middle of where each is expected to sound, rounded as in `Layout.position_ids`. */
export function placePieces(pieces, { codes_per_piece, codes_before_text }) {
  const { fround } = Math;
  let sum = 0;
  return pieces.map((piece) => {
    const codes = fround(codes_per_piece[piece]);
    sum += codes;
    const middle = fround(fround(fround(sum) - fround(codes / 2)) + fround(codes_before_text));
    const down = Math.floor(middle);
    return middle - down === 0.5 ? down + (down % 2) : Math.round(middle);
  });
}

/** Keys and values of all ids so far, (layers, 2, heads, room, channels), with room for more. */
class Past {
  constructor(shape) {
    this.shape = shape; // [layers, 2, heads, -, channels]
    this.count = this.room = 0;
    this.data = new Float32Array(0);
  }

  append(added, count) {
    const channels = this.shape[4];
    if (this.count + count > this.room) this.grow(Math.ceil((this.count + count) / SPACES) * SPACES);
    for (let at = 0, row = 0; at < added.length; at += count * channels, row++) {
      this.data.set(added.subarray(at, at + count * channels), (row * this.room + this.count) * channels);
    }
    this.count += count;
  }

  grow(room) {
    const channels = this.shape[4];
    const rows = this.shape[0] * this.shape[1] * this.shape[2];
    const data = new Float32Array(rows * room * channels);
    for (let row = 0; row < rows; row++) {
      const from = row * this.room * channels;
      data.set(this.data.subarray(from, from + this.count * channels), row * room * channels);
    }
    Object.assign(this, { room, data });
  }

  tensor(ort) {
    const [layers, two, heads, , channels] = this.shape;
    return new ort.Tensor("float32", this.data, [layers, two, heads, this.room, channels]);
  }
}

/** The codes of a text, given as pieces, as they come. */
export async function* speak(
  { ort, session },
  layout,
  pieces,
  { temperature, top_p, guidance_scale, seed, max_codes },
) {
  const random = randomNumbers(seed);
  const past = new Past(layout.past_shape);
  past.grow(SPACES);
  const text = pieces.map((piece) => layout.text_offset + piece);
  let ids = [
    [BOS, ...text, AUDIO],
    [...text.map(() => 0), BOS, AUDIO],
  ]; // with the text, and without it
  let positions = [[0, ...placePieces(pieces, layout), 0], ids[1].map(() => 0)];
  const seen = ids.map((row) => row.map((id) => (id > 0 ? 1 : 0))); // which ids are there, and no padding
  const scale = new ort.Tensor("float32", [guidance_scale], []);
  const limit = Math.min(max_codes, layout.context - ids[0].length);
  const whole = (rows) => new ort.Tensor("int64", BigInt64Array.from(rows.flat(), BigInt), [2, rows[0].length]);
  for (let position = 1; position <= limit; position++) {
    const count = ids[0].length;
    const mask = seen.flatMap((row) => {
      const before = row.slice(0, past.count);
      return [...before, ...new Array(past.room - past.count).fill(0), ...row.slice(past.count)];
    });
    const result = await session.run({
      input_ids: whole(ids),
      position_ids: whole(positions),
      attention_mask: new ort.Tensor("bool", Uint8Array.from(mask), [2, past.room + count]),
      past: past.tensor(ort),
      guidance_scale: scale,
    });
    past.append(result.new.data, count);
    const code = Number(result.codes.data[draw(result.scores.data, temperature, top_p, random)]);
    if (code < 0) return;
    yield code;
    ids = [[layout.audio_offset + code], [layout.audio_offset + code]];
    positions = [[position], [position]];
    for (const row of seen) row.push(1);
  }
}
