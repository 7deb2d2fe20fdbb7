// The page: what is clicked, what is shown. Computation is in worker.js, sound in player.js, pictures in draw.js.

import { readRecording, record, toWav } from "./audio.js";
import { LatticeView, Spectrogram, drawTimeline } from "./draw.js";
import { concatenate } from "./models.js";
import { Player } from "./player.js";

const WINDOW_FRAMES = 450; // six seconds
const SPEECH = { temperature: 0.5, top_p: 0.9, guidance_scale: 2, max_codes: 1500 };
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
const SIMD = [
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
];
const $ = (id) => document.getElementById(id);
const inputs = ["choose", "record", "sample", "speak"];

let worker, vocabulary, player, lattices, taking;
let messages = 0;
let waiting = new Map();
let shown = null; // the recording: {original, reconstruction, codes, first, undo, spectrograms}
let selected = 0;
let copied = null;
let dirty = true;

// ---- computation -------------------------------------------------------------------------------------------------

function startWorker(gpu) {
  worker?.terminate();
  for (const { reject } of waiting.values()) reject(new Error("Stopped."));
  waiting = new Map();
  worker = new Worker("worker.js", { type: "module" });
  worker.onmessage = ({ data: { id, done, error, ...answer } }) => {
    const task = waiting.get(id);
    if (!task) return;
    if (done) waiting.delete(id);
    if (error) task.reject(new Error(error));
    else if (done) task.resolve(answer);
    else task.progress(answer);
  };
  worker.onerror = (event) => {
    event.preventDefault();
    const reason = event.message || "it runs no module workers";
    for (const { reject } of waiting.values()) reject(new Error(`This browser cannot run the models: ${reason}`));
    waiting = new Map();
  };
  return ask("start", { gpu, threads: crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1 });
}

function ask(task, values, progress = showProgress) {
  const id = ++messages;
  return new Promise((resolve, reject) => {
    waiting.set(id, { resolve, reject, progress });
    worker.postMessage({ id, task, ...values });
  });
}

let loadedBytes = 0;

function showProgress({ loaded, total, share }) {
  if (loaded) {
    loadedBytes += loaded;
    $("doing").textContent = `Loading models: ${(loadedBytes / 1e6).toFixed(1)} MB`;
    $("progress").removeAttribute("value");
    if (total) $("progress").value = Math.min(1, loadedBytes / total);
  } else if (share !== undefined) $("progress").value = share;
}

/** Do something that takes a while: say so, keep other inputs away, show what went wrong. */
async function busy(doing, action, stoppable = false) {
  $("message").hidden = true;
  Object.assign($("doing"), { textContent: doing });
  loadedBytes = 0;
  $("progress").removeAttribute("value");
  $("progress").hidden = false;
  $("stop").hidden = !stoppable;
  for (const id of inputs) $(id).disabled = true;
  try {
    await action();
    $("doing").textContent = "Ready.";
  } catch (error) {
    $("message").textContent = error.message;
    $("message").hidden = false;
    $("doing").textContent = "";
  }
  $("progress").hidden = $("stop").hidden = true;
  for (const id of inputs) $(id).disabled = !vocabulary;
  document.body.dataset.done = Number(document.body.dataset.done ?? 0) + 1; // tests wait for it
}

// ---- recordings --------------------------------------------------------------------------------------------------

const open = (blob) =>
  busy(
    "Reading the recording …",
    async () => {
      player.stop();
      const recording = await readRecording(blob, vocabulary.sampling_rate);
      const start = performance.now();
      $("doing").textContent = "Recording → tokens …";
      const { codes, samples: original } = await ask("encode", recording);
      if (!codes) return;
      $("doing").textContent = "Tokens → sound …";
      const { samples } = await ask("decode", { codes });
      if (!samples) return;
      const taken = (performance.now() - start) / 1000;
      show({ original, reconstruction: samples.slice(0, original.length), codes });
      $("engine").textContent = `${seconds(codes.length).toFixed(1)} s coded and decoded in ${taken.toFixed(1)} s`;
    },
    true,
  );

/** Show a recording from its beginning; the player gets it, unless it plays what is on its way. */
function show(recording) {
  selected = 0;
  keep(recording);
  player.set({ original: shown.original, reconstruction: shown.reconstruction });
}

function keep({ original = null, reconstruction, codes }) {
  shown = { original, reconstruction, codes, first: codes.slice(), undo: [], spectrograms: {} };
  renewSpectrograms();
  document.querySelector("[name=heard][value=original]").disabled = !original;
  if (!original) hear("reconstruction");
  $("result").hidden = false;
  describe();
}

function renewSpectrograms() {
  const { original, reconstruction, spectrograms } = shown;
  const { hop_length: hop } = vocabulary;
  spectrograms.original ??= original && new Spectrogram(original, hop);
  spectrograms.reconstruction = new Spectrogram(reconstruction, hop);
}

function indicesOf(codes) {
  const size = vocabulary.points[0].length;
  return [codes.map((code) => code % size), codes.map((code) => code / size)]; // whole numbers, as the codes
}

function describe() {
  const { codes, undo, original, first } = shown;
  shown.indices = indicesOf(codes);
  shown.changed = new Set([...codes.keys()].filter((frame) => codes[frame] !== first[frame]));
  const ratio = Math.round((16 * vocabulary.sampling_rate) / vocabulary.bitrate);
  $("facts").textContent =
    `${codes.length} tokens, ${Math.round(vocabulary.bitrate)} bit/s` +
    (original ? `: ${ratio} times less than 16-bit sound` : "");
  $("facts").title = `${Math.ceil((seconds(codes.length) * vocabulary.bitrate) / 8)} bytes in all`;
  $("undo").disabled = $("reset").disabled = !undo.length;
  $("timeline").setAttribute("aria-valuemax", codes.length);
  select(selected);
}

async function takeMicrophone() {
  if (taking) return taking.stop();
  $("message").hidden = true;
  try {
    taking = await record();
  } catch (error) {
    $("message").textContent = error.message;
    $("message").hidden = false;
    return;
  }
  $("record").setAttribute("aria-pressed", "true");
  $("record").textContent = "Stop recording";
  const blob = await taking.blob;
  taking = undefined;
  $("record").setAttribute("aria-pressed", "false");
  $("record").textContent = "Record your voice";
  await open(blob);
}

const speak = (text) =>
  busy(
    "Reading aloud …",
    async () => {
      const parts = [];
      const codes = [];
      const hearMore = ({ codes: more, samples, ...loading }) => {
        if (!samples) return showProgress(loading);
        if (!parts.length) player.startLive();
        parts.push(samples);
        codes.push(...more);
        player.append(samples);
        keep({ reconstruction: concatenate(parts, Float32Array), codes: Int32Array.from(codes) });
        $("doing").textContent = `Reading aloud: ${seconds(codes.length).toFixed(1)} s`;
      };
      const options = { ...SPEECH, seed: Math.floor(Math.random() * 2 ** 31) };
      const { count, seconds: taken } = await ask("speak", { text, options }, hearMore);
      if (count) {
        $("engine").textContent = `${seconds(count).toFixed(1)} s of speech generated in ${taken.toFixed(1)} s`;
        player.endLive(shown.reconstruction);
      }
    },
    true,
  );

const seconds = (frames) => (frames * vocabulary.hop_length) / vocabulary.sampling_rate;

// ---- tokens ------------------------------------------------------------------------------------------------------

function select(frame) {
  selected = Math.max(0, Math.min(frame, shown.codes.length - 1));
  const points = shown.indices.map((indices) => indices[selected]);
  $("token").textContent =
    `Frame ${selected + 1} of ${shown.codes.length}: token ${shown.codes[selected]}, ` +
    `cells ${points.join(" and ")}` +
    (shown.changed.has(selected) ? " (changed)" : "");
  $("timeline").setAttribute("aria-valuenow", selected + 1);
  $("timeline").setAttribute("aria-valuetext", $("token").textContent);
  dirty = true;
}

/** Put other tokens from the chosen frame on, and decode again what they change. */
function change(tokens, remember = true) {
  if ($("choose").disabled) return; // something else is on its way
  const first = selected;
  const count = Math.min(tokens.length, shown.codes.length - first);
  const before = shown.codes.slice(first, first + count);
  if (before.every((code, i) => code === tokens[i])) return;
  if (remember) shown.undo.push({ first, before });
  shown.codes.set(tokens.slice(0, count), first);
  describe();
  return decodeAgain(first, first + count);
}

/** Decode the frames that tokens within `first` and `stop` reach, from as far as these reach in turn. */
async function decodeAgain(first, stop) {
  const recording = shown;
  const { hop_length: hop, decoder } = vocabulary;
  const [after, before] = [decoder.context_frames, decoder.context_frames_before];
  const last = recording.codes.length;
  const [from, to] = [Math.max(0, first - after - before), Math.min(last, stop + before + after)];
  const { samples } = await ask("decode", { codes: recording.codes.slice(from, to) }, () => {});
  const [begin, end] = [Math.max(0, first - after) * hop, Math.min(last, stop + before) * hop];
  const whole = recording.reconstruction.slice();
  const part = samples.subarray(begin - from * hop, end - from * hop);
  whole.set(part.subarray(0, whole.length - begin), begin);
  recording.reconstruction = whole;
  if (recording !== shown) return;
  renewSpectrograms();
  player.replace(whole);
  describe();
}

function setPoint(group, index) {
  pause();
  const points = shown.indices.map((indices) => indices[selected]);
  points[group] = index;
  return change([points[0] + vocabulary.points[0].length * points[1]]);
}

function undo() {
  const { first, before } = shown.undo.pop();
  selected = first;
  return change(before, false);
}

function undoAll() {
  const changed = [...shown.changed];
  shown.undo = [];
  if (!changed.length) return describe();
  selected = changed[0];
  return change(shown.first.slice(changed[0], changed.at(-1) + 1), false);
}

// ---- sound and pictures ------------------------------------------------------------------------------------------

function hear(name) {
  player.hear(name);
  document.querySelector(`[name=heard][value=${name}]`).checked = true;
  dirty = true;
}

function pause() {
  if (!player.playing) return;
  select(Math.floor(player.position * (vocabulary.sampling_rate / vocabulary.hop_length)));
  player.stop();
  showPlaying();
}

function playOrPause() {
  if (player.playing) pause();
  else player.play();
  showPlaying();
}

function showPlaying() {
  $("play").textContent = player.playing ? "Pause" : "Play";
  $("play").setAttribute("aria-pressed", player.playing);
  dirty = true;
}

function hearAround() {
  player.seek(seconds(selected) - 0.5);
  player.play();
  showPlaying();
  const frame = selected;
  setTimeout(() => {
    pause();
    select(frame);
  }, 1100);
}

function viewAt(frame) {
  const count = Math.min(WINDOW_FRAMES, Math.max(75, shown.codes.length));
  return { count, first: Math.max(0, Math.min(frame - count / 3, shown.codes.length - count)) };
}

function draw() {
  requestAnimationFrame(draw);
  if (!shown || !(dirty || player.playing)) return;
  dirty = false;
  const { hop_length: hop, sampling_rate: rate, points } = vocabulary;
  const playing = (player.position * rate) / hop;
  const frame = player.playing ? Math.min(Math.floor(playing), shown.codes.length - 1) : selected;
  const heard = player.heard === "original" && shown.original ? "original" : "reconstruction";
  const samples = shown[heard];
  const state = {
    ...{ samples, hop, points, indices: shown.indices, changed: shown.changed, spectrogram: shown.spectrograms[heard] },
    ...{ numFrames: Math.ceil(samples.length / hop), selected: frame, playhead: player.playing ? playing : frame },
  };
  drawTimeline({ wave: $("wave"), spectrogram: $("spectrogram"), tokens: $("tokens") }, state, viewAt(frame));
  lattices.forEach((lattice, group) => lattice.show(shown.indices[group], frame));
  $("time").textContent = `${seconds(frame).toFixed(2)} of ${seconds(shown.codes.length).toFixed(2)} s`;
}

// ---- the page ----------------------------------------------------------------------------------------------------

function choose(frame) {
  select(frame);
  player.seek(seconds(selected));
}

function save() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(toWav(shown.reconstruction, vocabulary.sampling_rate));
  link.download = "from_tokens.wav";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function listen() {
  $("save").onclick = save;
  $("choose").onclick = () => $("file").click();
  $("file").onchange = () => {
    if ($("file").files[0]) open($("file").files[0]);
    $("file").value = "";
  };
  $("sample").onclick = async () => open(await (await fetch("sample.wav")).blob());
  $("record").onclick = takeMicrophone;
  $("stop").onclick = () => worker.postMessage({ task: "stop" });
  $("speech").onsubmit = (event) => {
    event.preventDefault();
    if (!$("speak").disabled) speak($("text").value);
  };
  const drop = $("drop");
  document.ondragover = (event) => {
    event.preventDefault();
    drop.classList.add("over");
  };
  document.ondragleave = () => drop.classList.remove("over");
  document.ondrop = (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    const [file] = event.dataTransfer.files;
    if (file && !$("choose").disabled) open(file);
  };
  $("play").onclick = playOrPause;
  for (const radio of document.querySelectorAll("[name=heard]")) radio.onchange = () => hear(radio.value);
  $("timeline").onclick = (event) => {
    const { left, width } = $("timeline").getBoundingClientRect();
    const { first, count } = viewAt(selected);
    choose(Math.floor(first + ((event.clientX - left) / width) * count));
  };
  $("timeline").onkeydown = (event) => {
    const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: -75, PageDown: 75, Home: -Infinity, End: Infinity };
    if (event.key === " ") playOrPause();
    else if (event.key === "x" && shown.original) hear(player.heard === "original" ? "reconstruction" : "original");
    else if (event.key in steps) choose(selected + steps[event.key]);
    else return;
    event.preventDefault();
  };
  [0, 1].forEach((group) => {
    $(`lattice${group}`).onkeydown = (event) => {
      if (!(event.key in ARROWS)) return;
      event.preventDefault();
      setPoint(group, lattices[group].towards(shown.indices[group][selected], ARROWS[event.key]));
    };
  });
  $("copy").onclick = () => {
    copied = shown.codes[selected];
    $("paste").disabled = false;
  };
  $("paste").onclick = () => change([copied]);
  $("hold").onclick = () => change(new Array(10).fill(shown.codes[selected]));
  $("hear").onclick = hearAround;
  $("undo").onclick = undo;
  $("reset").onclick = undoAll;
  $("gpu").onchange = () => start($("gpu").checked);
  window.onresize = () => (dirty = true);
}

/** Load runtime, encoder and decoder. */
const start = (gpu) =>
  busy("Loading models …", async () => {
    if (!globalThis.WebAssembly || !WebAssembly.validate(new Uint8Array(SIMD))) {
      throw new Error("This browser lacks WebAssembly with SIMD, which the models need; use a newer one.");
    }
    if (!globalThis.DecompressionStream || !globalThis.OffscreenCanvas) {
      throw new Error("This browser is too old for the page (it lacks DecompressionStream); use a newer one.");
    }
    let onGpu;
    ({ vocabulary, gpu: onGpu } = await startWorker(gpu));
    player ??= new Player(vocabulary.sampling_rate, showPlaying);
    lattices ??= vocabulary.points.map(
      (points, group) =>
        new LatticeView($(`lattice${group}`), points, vocabulary.neighbours[group], (index) => setPoint(group, index)),
    );
    $("engine").textContent = onGpu ? "decoder on the graphics card" : "on the processor (WebAssembly)";
    $("gpu").checked = onGpu;
    if (gpu && !onGpu) throw new Error("The graphics card does not run the decoder; it stays on the processor.");
  });

async function offerGpu() {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  $("gpuChoice").hidden = !adapter;
}

listen();
offerGpu();
draw();
start(false);

/** For tests: what is shown, what is heard, and the worker. */
export const page = {
  ask,
  get shown() {
    return shown;
  },
  get player() {
    return player;
  },
};
