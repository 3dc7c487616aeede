// review.csv, from which the trainer learns: the answers of this page, and those loaded into it.

const MAX_REVIEW_BYTES = 64 * 1024 * 1024;
const MAX_FACE = 1_000_000;
const MAX_NAMED_LINES = 5; // invalid lines that are listed by number
const MAX_SHOWN_CHARS = 100; // of an unknown label

const REVIEW_COLUMNS = [
  "path",
  "sha256",
  "face",
  "face_left",
  "face_top",
  "face_width",
  "face_height",
  "said",
  "confidence",
  "label",
  "sample",
];
// The columns of earlier releases.
const FORMER_COLUMNS = [
  REVIEW_COLUMNS.slice(0, -1),
  REVIEW_COLUMNS.slice(0, -1).filter((name) => name !== "sha256"),
];
const BOX_COLUMNS = REVIEW_COLUMNS.slice(3, 7);

// Converts a digest from base64 without padding to hexadecimal, and back.
function hexOf(digest) {
  const bytes = [...atob(digest)].map((letter) => letter.charCodeAt(0));
  return bytes.map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
function digestOf(hex) {
  const bytes = (hex.match(/../g) ?? []).map((byte) => parseInt(byte, 16));
  return btoa(String.fromCharCode(...bytes)).replaceAll("=", "");
}

// Whether an answer is one of the random sample. It says how often the model was right, so the
// model's answer must be known.
const isRandom = (report, row) => report.sampled.has(row) && report.said(row) !== null;

// The answers that the reviews file does not have yet: an old page overrides no newer answer. A
// recorded answer is among them if its photo has joined the sample since.
function reviewText(report, answers) {
  const lines = [REVIEW_COLUMNS];
  const joined = [...report.recordedAnswers].filter(
    ([row, { isRandom: wasRandom }]) => !wasRandom && isRandom(report, row) && answers.has(row),
  );
  const rows = new Set([...answers.newRows(), ...joined.map(([row]) => row)]);
  for (const row of [...rows].sort((a, b) => a - b)) {
    const box = report.box(row);
    const sides = box.length ? box.map((side) => side.toFixed(1)) : BOX_COLUMNS.map(() => "");
    const confidence = report.saidConfidence(row);
    lines.push([
      report.path(row),
      hexOf(report.digest(row)),
      String(report.rows.face[row] || ""),
      ...sides,
      report.said(row) ?? "",
      confidence < 0 ? "" : confidence.toFixed(4),
      answers.get(row),
      isRandom(report, row) ? "random" : "",
    ]);
  }
  return lines.map((fields) => `${fields.map(csvField).join(",")}\n`).join("");
}

function downloadReview(report, answers) {
  const file = new Blob([reviewText(report, answers)], { type: "text/csv;charset=utf-8" });
  const address = URL.createObjectURL(file);
  element("a", { href: address, download: "review.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
  answers.isDownloaded = true;
}

const numberOf = (text) => (/^-?\d+(\.\d+)?(e[+-]?\d+)?$/i.test(text) ? Number(text) : NaN);

// Parses the cells of a line; throws an error that says what is invalid.
function parseAnswer(cells, columns, report) {
  if (cells.length !== columns.length)
    throw new Error(`has ${cells.length} cells, not ${columns.length}`);
  const values = Object.fromEntries(columns.map((name, at) => [name, cells[at]]));
  const { path, sha256 = "", face, confidence, sample = "" } = values;
  const box = BOX_COLUMNS.map((name) => values[name]).filter(Boolean).map(numberOf);
  const label = FORMER_ANSWERS.get(values.label) ?? values.label;
  const shown = label.slice(0, MAX_SHOWN_CHARS);
  const share = numberOf(confidence);
  const faults = [
    [!path, "has no path"],
    [!label, "has no label"],
    [sha256 && !/^[0-9a-f]{64}$/i.test(sha256), "has no SHA-256 in 64 hexadecimal digits"],
    [face && !(/^\d+$/.test(face) && face >= 1 && face <= MAX_FACE), "has no number of a face"],
    [box.length % 4 || !box.every(Number.isFinite) || box[2] <= 0 || box[3] <= 0, "has no box"],
    [confidence && !(share >= 0 && share <= 1), "has no confidence between 0 and 1"],
    [
      !["", "random"].includes(sample),
      `has the sample ${sample.slice(0, MAX_SHOWN_CHARS)}, not random`,
    ],
    [!report.choices.includes(label), `has the label ${shown}, which this report lacks`],
  ];
  const fault = faults.find(([isFault]) => isFault);
  if (fault) throw new Error(fault[1]);
  return { path, digest: digestOf(sha256), face: Number(face), box, label };
}

// Returns the answers for rows of the page, the number of lines about others, and the faults.
function readReview(text, report, matcher) {
  const [head, ...lines] = parseCsv(text.replace(/^\ufeff/, ""));
  const columns = [REVIEW_COLUMNS, ...FORMER_COLUMNS].find(
    (names) => !head?.fault && names.join() === head?.cells.join(),
  );
  if (!columns) throw new Error(`does not have the columns ${REVIEW_COLUMNS.join()}`);
  const read = { pairs: [], others: 0, faults: [] };
  for (const { line, cells, fault } of lines) {
    try {
      if (fault) throw new Error(fault);
      const answer = parseAnswer(cells, columns, report);
      const row = matcher.find(answer);
      if (row === undefined) read.others++;
      else read.pairs.push([row, answer.label]);
    } catch (error) {
      read.faults.push(`line ${line} ${error.message}`);
    }
  }
  return read;
}

async function loadReview(file, report, answers) {
  try {
    if (file.size > MAX_REVIEW_BYTES) throw new Error("is larger than 64 MiB");
    const decoder = new TextDecoder("utf-8", { fatal: true });
    let text;
    try {
      text = decoder.decode(await file.arrayBuffer());
    } catch (error) {
      throw new Error(error instanceof TypeError ? "is not UTF-8" : "can't be read");
    }
    const { pairs, others, faults } = readReview(text, report, answers.matcher);
    const replaced = answers.setAll(pairs);
    const shown = faults.slice(0, MAX_NAMED_LINES);
    const more = faults.length - shown.length;
    if (more) shown.push(`and ${counted(more)} more`);
    const parts = [
      `${counted(pairs.length)} taken${replaced ? ` (${counted(replaced)} replaced others)` : ""}`,
      `${counted(others)} without a row in this page`,
      `${counted(faults.length)} invalid${faults.length ? `: ${shown.join("; ")}` : ""}`,
    ];
    return `${file.name}: ${parts.join(", ")}.`;
  } catch (error) {
    return `${file.name} ${error.message}; give a review.csv as this page saves it.`;
  }
}

// Loads files one after another, so that later ones override earlier ones, and reports on each.
async function loadReviews(files, report, answers) {
  const results = [];
  for (const file of files) results.push(await loadReview(file, report, answers));
  byId("loaded").replaceChildren(...results.map((text) => element("p", {}, text)));
  byId("loaded").hidden = !results.length;
}

function listenToFiles(report, answers) {
  const input = byId("load-files");
  byId("load").addEventListener("click", () => input.click());
  input.addEventListener("change", async () => {
    await loadReviews([...input.files], report, answers);
    input.value = ""; // the same file can be loaded again
  });
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (hasFiles(event)) event.preventDefault();
  });
  addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    loadReviews([...event.dataTransfer.files], report, answers);
  });
}
