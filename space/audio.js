// Files and the microphone -> mono samples, or an error that says what to do.

export const LONGEST_SECONDS = 600;
const LONGEST_TAKE_SECONDS = 30;
const LARGEST_BYTES = 300e6;

/** Mono samples of a file of any kind that the browser plays, and their rate: the file's own, or the one given. */
export async function readRecording(blob, rate) {
  if (!blob.size) throw new Error("This file is empty; choose a recording.");
  const seconds = await durationOf(blob);
  if (seconds > LONGEST_SECONDS || blob.size > LARGEST_BYTES) {
    const long = seconds < Infinity ? `${Math.round(seconds / 60)} minutes` : `${Math.round(blob.size / 1e6)} MB`;
    throw new Error(
      `This recording has ${long}; the page takes ${LONGEST_SECONDS / 60} minutes. The command q2d2 takes any length.`,
    );
  }
  let decoded;
  try {
    const bytes = await blob.arrayBuffer();
    decoded = await contextOf(rateOf(bytes) ?? rate, rate).decodeAudioData(bytes);
  } catch {
    throw new Error("This file is no audio that your browser can read; try a WAV, MP3, FLAC or Ogg file.");
  }
  const channels = Array.from({ length: decoded.numberOfChannels }, (_, i) => decoded.getChannelData(i));
  const samples = new Float32Array(decoded.length);
  for (const channel of channels) for (let i = 0; i < samples.length; i++) samples[i] += channel[i] / channels.length;
  if (!samples.length) throw new Error("This file holds no sound; choose another.");
  if (!samples.every(Number.isFinite)) throw new Error("This file holds values that are no numbers; choose another.");
  return { samples, rate: decoded.sampleRate };
}

/** The rate that a WAV or FLAC file names; undefined for others, which the browser brings to the rate of the codec. */
function rateOf(bytes) {
  const view = new DataView(bytes);
  const tag = (at) => String.fromCharCode(...new Uint8Array(bytes.slice(at, at + 4)));
  if (tag(0) === "fLaC" && view.byteLength > 22) return view.getUint32(18) >>> 12;
  if (tag(0) !== "RIFF" || tag(8) !== "WAVE") return undefined;
  for (
    let at = 12;
    at + 16 <= view.byteLength;
    at += 8 + view.getUint32(at + 4, true) + (view.getUint32(at + 4, true) % 2)
  ) {
    if (tag(at) === "fmt ") return view.getUint32(at + 12, true);
  }
  return undefined;
}

/** What decodes at a rate; at the other one if the browser does not offer the first. */
function contextOf(wanted, otherwise) {
  try {
    return new OfflineAudioContext(1, 1, wanted);
  } catch {
    return new OfflineAudioContext(1, 1, otherwise);
  }
}

/** Length in seconds as far as the browser knows it without decoding; 0 if it does not. */
function durationOf(blob) {
  const audio = new Audio();
  const address = URL.createObjectURL(blob);
  return new Promise((resolve) => {
    audio.onloadedmetadata = () => resolve(Number.isFinite(audio.duration) ? audio.duration : 0);
    audio.onerror = () => resolve(0);
    setTimeout(() => resolve(0), 5000);
    audio.preload = "metadata";
    audio.src = address;
  }).finally(() => URL.revokeObjectURL(address));
}

/** Start to record; `stop` ends it, and the blob comes then, or after half a minute. */
export async function record() {
  if (!navigator.mediaDevices?.getUserMedia || !window.MediaRecorder) {
    throw new Error("This browser gives pages no microphone here; open the page over https, or drop a file.");
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  } catch (error) {
    const reasons = {
      NotAllowedError: "The microphone was refused: allow it for this page, or drop a file.",
      NotFoundError: "There is no microphone: connect one, or drop a file.",
    };
    throw new Error(reasons[error.name] ?? `The microphone does not work (${error.name}); drop a file instead.`);
  }
  const recorder = new MediaRecorder(stream);
  const parts = [];
  const blob = new Promise((resolve) => {
    recorder.ondataavailable = ({ data }) => parts.push(data);
    recorder.onstop = () => {
      for (const track of stream.getTracks()) track.stop();
      resolve(new Blob(parts, { type: recorder.mimeType }));
    };
  });
  recorder.start();
  const timer = setTimeout(() => recorder.stop(), 1000 * LONGEST_TAKE_SECONDS);
  const stop = () => {
    clearTimeout(timer);
    if (recorder.state !== "inactive") recorder.stop();
  };
  return { blob, stop };
}

/** A WAV file (16 bit) of mono samples. */
export function toWav(samples, rate) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const text = (at, letters) => [...letters].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + 2 * samples.length, true);
  text(8, "WAVEfmt ");
  [16, 0x10001, rate, 2 * rate, 0x100002].forEach((value, i) => view.setUint32(16 + 4 * i, value, true));
  text(36, "data");
  view.setUint32(40, 2 * samples.length, true);
  samples.forEach((x, i) => view.setInt16(44 + 2 * i, Math.round(Math.max(-1, Math.min(1, x)) * 32767), true));
  return new Blob([view], { type: "audio/wav" });
}
