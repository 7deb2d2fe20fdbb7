// The ONNX files of the codec, run frame by frame: what they remember goes in and comes out.

/** A file of the page, unpacked if it ends in .gz; `progress` is called with the bytes that came. */
export async function load(path, progress = () => {}) {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`${path} did not come (${response.status}); reload the page`);
  const counted = new TransformStream({
    transform(chunk, controller) {
      progress(chunk.byteLength);
      controller.enqueue(chunk);
    },
  });
  let stream = response.body.pipeThrough(counted);
  if (path.endsWith(".gz")) stream = stream.pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Encoder or decoder over the frames of one recording, as they come. */
export class Stream {
  constructor({ ort, session }, { context_frames, state_size }, hop) {
    Object.assign(this, { ort, session, hop, context: context_frames, late: context_frames });
    this.state = new ort.Tensor("float32", new Float32Array(state_size), [1, state_size]);
  }

  /** What the next frames determine: codes of samples (a multiple of the hop), or samples of codes. */
  async push(values, inside = true) {
    const { Tensor } = this.ort;
    const isAudio = values instanceof Float32Array;
    const count = isAudio ? values.length / this.hop : values.length;
    const mask = new Tensor("bool", new Uint8Array(count).fill(inside ? 1 : 0), [1, count]);
    const given = isAudio
      ? { input_values: new Tensor("float32", values, [1, count, this.hop]) }
      : { audio_codes: new Tensor("int64", BigInt64Array.from(values, BigInt), [1, count]) };
    const result = await this.session.run({ ...given, frame_mask: mask, state: this.state });
    this.state = result.new_state;
    const late = Math.min(this.late, count);
    this.late -= late;
    return isAudio
      ? Int32Array.from(result.audio_codes.data.subarray(late), Number)
      : result.audio_values.data.slice(late * this.hop);
  }

  /** What the last frames still determine. */
  end(isAudio) {
    return this.push(isAudio ? new Float32Array(this.context * this.hop) : new Int32Array(this.context), false);
  }
}

export function concatenate(parts, Type) {
  const whole = new Type(parts.reduce((sum, part) => sum + part.length, 0));
  parts.reduce((at, part) => (whole.set(part, at), at + part.length), 0);
  return whole;
}
