// Plain English sentences -> pieces of the language model: letters, phones of known words, then the likeliest cut.
// Numbers, symbols and abbreviations are read by the Python package alone; here they are refused, not dropped.

const FIRST_PHONE = 0xe000; // the private use area of Unicode: one character per phone
const SILENT = /["()[\]{}<>/\\|*_~^#•·¿¡‐‑−–—:;«»„“”-]/g;

/** Text in the letters a to z, apostrophe, space and .,?! as `lm.text.normalize_text` leaves plain sentences. */
export function normalize(text) {
  const plain = text
    .replace(/[’‘ʼ′´`]/g, "'")
    .replace(/…/g, "...")
    .toLowerCase()
    .normalize("NFKD")
    .replace(/\p{M}/gu, "")
    .replace(/[‐‑−]/g, "-");
  const unread = new Set(plain.replace(SILENT, "").match(/[^a-z'\s.,?!]/gu));
  if (unread.size) {
    const list = [...unread].slice(0, 10).join(" ");
    throw new Error(`This page reads plain words: please write “${list}” in words (7 as seven, & as and).`);
  }
  return plain
    .replace(/\s-+\s|--+|[–—;:]/g, ", ")
    .replace(/(?<![a-z])'|'(?![a-z])/g, " ")
    .replace(/[^a-z' .,?!]/g, " ")
    .replace(/\s+/g, " ")
    .replace(/ (?=[.,?!])/g, "")
    .replace(/([.,?!])[.,?!]+/g, "$1")
    .replace(/([.,?!])(?=[a-z])/g, "$1 ")
    .replace(/^[ .,?!]+/, "")
    .trim();
}

/** Normalised text in parts of whole sentences, cut at commas and then between words where they are too long. */
export function split(text, longest) {
  let parts = [text];
  for (const pattern of [/(?<=[.?!]) /, /(?<=,) /, / /]) {
    parts = parts.flatMap((part) => (part.length <= longest ? [part] : join(part.split(pattern), longest)));
  }
  return parts.flatMap((part) => part.match(new RegExp(`.{1,${longest}}`, "g")) ?? []);
}

function join(units, longest) {
  const joined = [];
  for (const unit of units) {
    const last = joined.length - 1;
    if (last >= 0 && joined[last].length + 1 + unit.length <= longest) joined[last] += ` ${unit}`;
    else joined.push(unit);
  }
  return joined;
}

export class TextReader {
  /** Pieces are [text, log probability] of a sentencepiece model, pronunciations lines of "word PHONE PHONE". */
  constructor(pieces, pronunciations) {
    this.pieces = new Map(pieces.map(([piece, score], id) => [piece, { id, score }]));
    this.longest = Math.max(...pieces.map(([piece]) => piece.length));
    const lines = pronunciations
      .trim()
      .split("\n")
      .map((line) => line.split(" "));
    const phones = [...new Set(lines.flatMap((line) => line.slice(1)))].sort();
    const symbols = new Map(phones.map((phone, i) => [phone, String.fromCharCode(FIRST_PHONE + i)]));
    this.spelling = new Map(lines.map(([word, ...said]) => [word, said.map((phone) => symbols.get(phone)).join("")]));
  }

  /** Ids of the pieces of a normalised text. */
  encode(text) {
    const phones = text.replace(/[a-z][a-z']*/g, (word) => this.spelling.get(word) ?? word);
    return this.segment(`▁${phones.replaceAll(" ", "▁")}`);
  }

  /** The likeliest sequence of pieces (Viterbi over the unigram model). */
  segment(text) {
    const best = [{ score: 0 }];
    for (let stop = 1; stop <= text.length; stop++) {
      best[stop] = { score: -Infinity };
      for (let start = Math.max(0, stop - this.longest); start < stop; start++) {
        const piece = this.pieces.get(text.slice(start, stop));
        if (piece && best[start].score + piece.score > best[stop].score) {
          best[stop] = { score: best[start].score + piece.score, start, id: piece.id };
        }
      }
    }
    const ids = [];
    for (let stop = text.length; stop > 0; stop = best[stop].start) ids.unshift(best[stop].id);
    return ids;
  }
}
