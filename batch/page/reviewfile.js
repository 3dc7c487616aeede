// review.csv: the reviewer's answers, from which the trainer learns.

const REVIEW_COLUMNS = [
  "path",
  "face",
  "face_left",
  "face_top",
  "face_width",
  "face_height",
  "said",
  "confidence",
  "label",
];

function csvField(text) {
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function reviewText(report, answers) {
  const lines = [REVIEW_COLUMNS];
  for (const row of [...answers.given.keys()].sort((a, b) => a - b)) {
    const box = report.box(row);
    const sides = box.length ? box.map((side) => side.toFixed(1)) : ["", "", "", ""];
    const confidence = report.confidence(row);
    lines.push([
      report.path(row),
      String(report.rows.face[row] || ""),
      ...sides,
      report.answer(row),
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
