// All computation, away from the page, which so never freezes. Answers {id, ...} to messages {id, task, ...}.

import { Stream, concatenate, load } from "./models.js";
import { resample } from "./resample.js";
import { speak } from "./speech.js";
import { TextReader, normalize, split } from "./text.js";

const CHUNK_FRAMES = 150; // two seconds at a time
const SPEECH_CODES = 24;
const PART_CHARACTERS = 150;
let vocabulary, settings;
let queue = Promise.resolve();
let stopped = false;
const loading = new Map();

onmessage = ({ data }) => {
  if (data.task === "stop") {
    stopped = true;
    return;
  }
  queue = queue.then(async () => {
    stopped = false;
    try {
      await tasks[data.task](data, (answer, done = false) => postMessage({ id: data.id, done, ...answer }));
    } catch (error) {
      postMessage({ id: data.id, done: true, error: error.message ?? String(error) });
    }
  });
};

const tasks = {
  /** Load encoder and decoder; says whether the decoder is on the graphics card. */
  async start({ gpu, threads }, answer) {
    settings = { gpu, threads };
    vocabulary = JSON.parse(new TextDecoder().decode(await load("./models/vocabulary.json")));
    await Promise.all([model("encoder", answer), model("decoder", answer)]);
    answer({ vocabulary, gpu: settings.gpu }, true);
  },

  /** Codes of samples, and the samples at the rate of the codec. */
  async encode({ samples: given, rate }, answer) {
    const { hop_length: hop } = vocabulary;
    const samples = resample(given, rate, vocabulary.sampling_rate);
    const stream = new Stream(await model("encoder", answer), vocabulary.encoder, hop);
    const parts = [];
    for (let at = 0; at < samples.length; at += CHUNK_FRAMES * hop) {
      if (stopped) return answer({ cancelled: true }, true);
      const part = samples.slice(at, at + CHUNK_FRAMES * hop);
      const whole = new Float32Array(Math.ceil(part.length / hop) * hop);
      whole.set(part);
      parts.push(await stream.push(whole));
      answer({ share: at / samples.length });
    }
    parts.push(await stream.end(true));
    answer({ codes: concatenate(parts, Int32Array), samples }, true);
  },

  async decode({ codes }, answer) {
    const stream = new Stream(await model("decoder", answer), vocabulary.decoder, vocabulary.hop_length);
    const parts = [];
    for (let at = 0; at < codes.length; at += CHUNK_FRAMES) {
      if (stopped) return answer({ cancelled: true }, true);
      parts.push(await stream.push(codes.slice(at, at + CHUNK_FRAMES)));
      answer({ share: at / codes.length });
    }
    parts.push(await stream.end(false));
    answer({ samples: concatenate(parts, Float32Array) }, true);
  },

  async speak({ text, options }, answer) {
    const normal = normalize(text);
    if (!normal) throw new Error("There is nothing to read in this text: it takes English letters.");
    const [speaker, reader, decoder] = [
      await model("language_model", answer),
      await textReader(answer),
      await model("decoder"),
    ];
    const start = performance.now();
    let count = 0;
    for (const part of split(normal, PART_CHARACTERS)) {
      const stream = new Stream(decoder, vocabulary.decoder, vocabulary.hop_length);
      const pieces = reader.encode(part);
      let codes = [];
      const send = async () => {
        answer({ codes, samples: await stream.push(codes), seconds: (performance.now() - start) / 1000 });
        codes = [];
      };
      for await (const code of speak(speaker, vocabulary.layout, pieces, options)) {
        if (stopped) return answer({ cancelled: true }, true);
        codes.push(code);
        count += 1;
        if (codes.length === SPEECH_CODES) await send();
      }
      if (codes.length) await send();
      answer({ codes: [], samples: await stream.end(false) });
    }
    answer({ count, seconds: (performance.now() - start) / 1000 }, true);
  },

  /** Pieces of a text, for tests. */
  async pieces({ text }, answer) {
    answer({ pieces: (await textReader(answer)).encode(normalize(text)) }, true);
  },
};

/** The runtime with or without WebGPU. That with it has no float64, which the encoder computes in. */
function runtime(gpu) {
  const file = gpu ? "./ort/ort.webgpu.min.mjs" : "./ort/ort.wasm.min.mjs";
  const start = async () => {
    const ort = await import(file);
    ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;
    ort.env.wasm.numThreads = settings.threads;
    return ort;
  };
  return once(file, start);
}

function once(name, make) {
  if (!loading.has(name)) loading.set(name, make());
  return loading.get(name);
}

/** A model, {ort, session}, loaded when it is first asked for. */
function model(name, answer = () => {}) {
  return once(name, async () => {
    const progress = (count) => answer({ loaded: count, total: vocabulary.bytes[name] });
    const bytes = await load(`./models/${name}.onnx.gz`, progress);
    if (settings.gpu && name === "decoder") {
      try {
        return await open(bytes, true);
      } catch (error) {
        console.warn("the decoder stays on the processor:", error);
        settings.gpu = false;
      }
    }
    return open(bytes, false);
  });
}

async function open(bytes, gpu) {
  const ort = await runtime(gpu);
  const options = { executionProviders: [gpu ? "webgpu" : "wasm"], logSeverityLevel: 3 };
  return { ort, session: await ort.InferenceSession.create(bytes, options) };
}

function textReader(answer) {
  return once("pronunciations", async () => {
    const progress = (count) => answer({ loaded: count, total: vocabulary.bytes.pronunciations });
    const bytes = await load("./models/pronunciations.txt.gz", progress);
    return new TextReader(vocabulary.pieces, new TextDecoder().decode(bytes));
  });
}
