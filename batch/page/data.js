// The rows of the report as columns, and their pictures.

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

const DIGEST_CHARS = 43; // of a SHA-256 in base64 without its padding

class Report {
  constructor(data, files, digests) {
    Object.assign(this, data);
    this.size = data.rows.status.length;
    this.digests = digests;
    this.photos = numberPhotos(data.rows);
    this.times = timesOf(data.rows);
    this.unlinkedRows = new Set(data.unlinked);
    this.recordedAnswers = new Map(
      data.recorded.map(([row, label, said, confidence, isRandom]) => [
        row,
        { label, said, confidence, isRandom },
      ]),
    );
    // The place of each row in the order of the review.
    this.sampled = new Map(data.sample.map((row, at) => [row, at]));
    this.chosenRows = new Map(data.chosen.map((row, at) => [row, at]));
    this.missing = new Set(data.rows.missing);
    this.errors = new Map(data.rows.error);
    this.changed = new Map(
      data.changed.map(([row, change, was, from]) => [row, { change, was, from }]),
    );
    this.shown = new Map(
      data.pictures.map(([row, left, top, width, height, note], at) => [
        row,
        { view: [left, top, width, height], note, file: files[at] },
      ]),
    );
    // In old reports a label may have the name of an abstain output.
    this.choices = [...new Set([...data.labels, ...data.abstain])];
  }

  folder(row) {
    return this.rows.folders[this.rows.folder[row]];
  }
  path(row) {
    return this.folder(row) + this.rows.name[row];
  }
  status(row) {
    return this.statuses[this.rows.status[row]];
  }
  label(row) {
    return this.labels[this.rows.label[row]] ?? "";
  }
  // The label or abstain output; empty without an answer.
  answer(row) {
    const status = this.status(row);
    return this.label(row) || (this.abstain.includes(status) ? status : "");
  }
  source(row) {
    return this.sources[this.rows.source[row]] ?? "";
  }
  isReviewed(row) {
    return this.source(row) === "review";
  }
  // The answer of the model, which the report no longer has for rows that a person answered; empty
  // without one, null if unknown.
  said(row) {
    return this.isReviewed(row) ? this.recordedAnswers.get(row)?.said ?? null : this.answer(row);
  }
  saidConfidence(row) {
    if (!this.isReviewed(row)) return this.confidence(row);
    return (this.recordedAnswers.get(row)?.confidence ?? -1) / 10000;
  }
  // 0 to 1; negative without an answer.
  confidence(row) {
    return this.rows.confidence[row] / 10000;
  }
  // Left, top, width and height in pixels of the photo; empty without a box.
  box(row) {
    return this.rows.box[row].map((side) => side / 10);
  }
  // The SHA-256 of the photo in base64 without padding; empty if unknown.
  digest(row) {
    const at = this.photos[row] * DIGEST_CHARS;
    const digest = this.digests.slice(at, at + DIGEST_CHARS);
    return digest.startsWith(".") ? "" : digest;
  }
  // All rows of the photo, which are adjacent; several in a report with one row per face.
  rowsOfPhoto(row) {
    let [first, last] = [row, row];
    while (this.photos[first - 1] === this.photos[row]) first--;
    while (this.photos[last + 1] === this.photos[row]) last++;
    return Array.from({ length: last - first + 1 }, (_, at) => first + at);
  }
  // Local time in milliseconds, as if it were UTC; NaN if unknown.
  time(row) {
    return this.times[row];
  }
  // The time as the report writes it, with a space; empty if unknown.
  taken(row) {
    if (Number.isNaN(this.times[row])) return "";
    const text = new Date(this.times[row]).toISOString().slice(0, 19).replace("T", " ");
    return `${text} ${this.rows.offsets[this.rows.offset[row]]}`.trim();
  }
  camera(row) {
    return this.rows.cameras[this.rows.camera[row]];
  }
  // The address of the original photo; empty if a browser can't open it.
  link(row) {
    const start = this.links[this.rows.folder[row]];
    if (!start || this.missing.has(row) || this.unlinkedRows.has(row)) return "";
    return start + encodeName(this.rows.name[row], !start.startsWith("./"));
  }
  // A photo that could not be read has no correct answer.
  canReview(row) {
    return this.status(row) !== "failed";
  }
  name(row) {
    const face = this.rows.face[row];
    return face ? `${this.rows.name[row]}, face ${face}` : this.rows.name[row];
  }
}

// Numbers the photos of the rows: adjacent rows with the same path are faces of one photo.
function numberPhotos({ folder, name }) {
  const numbers = new Int32Array(name.length);
  for (let row = 1; row < name.length; row++) {
    const isSame = name[row] === name[row - 1] && folder[row] === folder[row - 1];
    numbers[row] = numbers[row - 1] + (isSame ? 0 : 1);
  }
  return numbers;
}

function timesOf({ taken }) {
  let last = 0;
  return Float64Array.from(taken, (seconds) =>
    seconds === null ? NaN : (last += seconds) * 1000,
  );
}

// Percent-encodes the name of a photo, whose escapes stand for bytes. A URL is encoded already.
function encodeName(text, isUrl) {
  const byteOf = { n: "%0A", r: "%0D", t: "%09", "\\": "%5C" };
  return text.replace(/\\x([0-9A-Fa-f]{2})|\\(.)|[^\\]+/gsu, (plain, hex, short) => {
    if (hex) return `%${hex}`;
    if (short) return byteOf[short] ?? encodeURIComponent(plain);
    return isUrl ? plain : encodeURIComponent(plain);
  });
}

async function readReport() {
  const data = await unpack(byId("rows").textContent);
  const report = new Report(
    data,
    JSON.parse(byId("pictures").textContent),
    byId("digests").textContent,
  );
  // They are large and no longer needed.
  for (const id of ["rows", "pictures", "digests"]) byId(id).remove();
  return report;
}
