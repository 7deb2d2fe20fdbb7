// Plays original and reconstruction at once and lets one of them be heard, so that switching leaves no gap.

const FADE_SECONDS = 0.01;

export class Player {
  constructor(rate, onend) {
    Object.assign(this, { rate, onend, heard: "reconstruction", offset: 0, sources: {}, buffers: {} });
  }

  /** Made at the first click: browsers allow no sound before. */
  get context() {
    this.made ??= new AudioContext({ sampleRate: this.rate });
    return this.made;
  }

  /** The sound to play from now on, {original, reconstruction}, either may be null. */
  set(recordings) {
    this.stop();
    this.offset = 0;
    this.buffers = {};
    for (const [name, samples] of Object.entries(recordings)) if (samples?.length) this.buffers[name] = samples;
  }

  /** Put changed sound in the place of the reconstruction, at once. */
  replace(samples) {
    const playing = this.playing;
    const position = this.position;
    this.stop();
    this.buffers.reconstruction = samples;
    this.offset = position;
    if (playing) this.play();
  }

  get seconds() {
    return Math.max(0, ...Object.values(this.buffers).map((samples) => samples.length)) / this.rate;
  }

  get playing() {
    return Object.keys(this.sources).length > 0 || this.live !== undefined;
  }

  get position() {
    if (this.live) return this.livePosition();
    if (!this.playing) return this.offset;
    return Math.min(this.seconds, Math.max(this.offset, this.offset + this.context.currentTime - this.started));
  }

  seek(position) {
    const playing = this.playing && !this.live;
    this.stop();
    this.offset = Math.max(0, Math.min(position, this.seconds));
    if (playing) this.play();
  }

  play() {
    this.stop();
    const { context } = this;
    context.resume();
    if (this.offset >= this.seconds - 0.02) this.offset = 0;
    this.started = context.currentTime + 0.03;
    for (const [name, samples] of Object.entries(this.buffers)) {
      const source = this.source(samples);
      const gain = context.createGain();
      gain.gain.value = name === this.audible ? 1 : 0;
      source.connect(gain).connect(context.destination);
      source.start(this.started, this.offset);
      this.sources[name] = { source, gain };
    }
    const ending = Object.values(this.sources).at(-1).source;
    ending.onended = () => {
      if (!Object.values(this.sources).some(({ source }) => source === ending)) return;
      this.sources = {};
      this.offset = 0;
      this.onend();
    };
  }

  stop() {
    this.offset = this.position;
    for (const { source } of Object.values(this.sources)) source.stop();
    for (const { source } of this.live?.parts ?? []) source.stop();
    this.sources = {};
    this.live = undefined;
  }

  get audible() {
    return this.buffers[this.heard] ? this.heard : Object.keys(this.buffers)[0];
  }

  hear(name) {
    this.heard = name;
    for (const [other, { gain }] of Object.entries(this.sources)) {
      gain.gain.setTargetAtTime(other === this.audible ? 1 : 0, this.context.currentTime, FADE_SECONDS / 3);
    }
  }

  source(samples) {
    const source = this.context.createBufferSource();
    source.buffer = this.context.createBuffer(1, samples.length, this.rate);
    source.buffer.copyToChannel(samples, 0);
    return source;
  }

  /** Play chunks as they are appended; where one comes late, there is a pause. */
  startLive() {
    this.set({});
    this.context.resume();
    this.live = { parts: [], next: 0, length: 0 };
  }

  append(samples) {
    if (!this.live || !samples.length) return;
    const { live, context } = this;
    const source = this.source(samples);
    const start = Math.max(live.next, context.currentTime + (live.parts.length ? 0.02 : 0.1));
    source.connect(context.destination);
    source.start(start);
    live.parts.push({ source, start, offset: live.length });
    live.length += samples.length / this.rate;
    live.next = start + samples.length / this.rate;
  }

  /** Nothing more comes: when what is there has been played, it is a recording like any other. */
  async endLive(samples) {
    const { live } = this;
    if (!live) return this.set({ reconstruction: samples });
    const left = live.next - this.context.currentTime;
    await new Promise((resolve) => setTimeout(resolve, 1000 * Math.max(0, left)));
    if (this.live === live) {
      this.set({ reconstruction: samples });
      this.onend();
    }
  }

  livePosition() {
    const now = this.context.currentTime;
    const part = this.live.parts.findLast(({ start }) => start <= now);
    return part ? Math.min(this.live.length, part.offset + now - part.start) : 0;
  }
}
