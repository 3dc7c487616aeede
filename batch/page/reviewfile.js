// review.csv: the reviewer's answers, from which the trainer learns.

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
];

// Converts a digest from base64 without padding to hexadecimal, and back.
function hexOf(digest) {
  const bytes = [...atob(digest)].map((letter) => letter.charCodeAt(0));
  return bytes.map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
function digestOf(hex) {
  const bytes = (hex.match(/../g) ?? []).map((byte) => parseInt(byte, 16));
  return btoa(String.fromCharCode(...bytes)).replaceAll("=", "");
}

function csvField(text) {
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

// The answers that the reviews file does not have yet: an old page overrides no newer answer.
function reviewText(report, answers) {
  const lines = [REVIEW_COLUMNS];
  for (const row of answers.newRows()) {
    const box = report.box(row);
    const sides = box.length ? box.map((side) => side.toFixed(1)) : ["", "", "", ""];
    const confidence = report.saidConfidence(row);
    lines.push([
      report.path(row),
      hexOf(report.digest(row)),
      String(report.rows.face[row] || ""),
      ...sides,
      report.said(row) ?? "",
      confidence < 0 ? "" : confidence.toFixed(4),
      answers.get(row),
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
