// The photos that the page asks people to review: a random sample, and those chosen to learn from.

const DEVIATIONS = 1.959964; // standard deviations of a 95 % interval

// The interval of a share of independent samples (Wilson 1927).
function shareInterval(share, count) {
  const square = DEVIATIONS ** 2;
  const middle = share + square / (2 * count);
  const half = DEVIATIONS * Math.sqrt((share * (1 - share)) / count + square / (4 * count ** 2));
  const [low, high] = [middle - half, middle + half].map((end) => end / (1 + square / count));
  // Rounding errors must not move an end beyond the share, below 0 or above 1.
  return [Math.min(Math.max(0, low), share), Math.max(Math.min(1, high), share)];
}

// Rows about the same photo or face share an answer, and count once.
function distinctRows(rows, matcher) {
  return [...new Map([...rows].map((row) => [matcher.keyOf(row), row])).values()];
}

// How often the model was right on the sample; empty without answers. Answers about faces of one
// photo depend on each other, so the interval counts photos.
function accuracyText(report, answers, rows) {
  const judged = rows.filter((row) => answers.has(row) && report.said(row) !== null);
  if (!judged.length) return "";
  const share = judged.filter((row) => !answers.isCorrected(row)).length / judged.length;
  const photos = new Set(judged.map((row) => report.digest(row))).size;
  const [low, high] = shareInterval(share, photos).map(percent);
  return `The model was right on ${percent(share)} of the random sample (${low} to ${high}).`;
}

function showReviewSets(report, answers) {
  const show = (name, title, rows) => {
    const done = rows.filter((row) => answers.has(row)).length;
    byId(`show-${name}`).textContent =
      `${title}: ${counted(done)} of ${counted(rows.length)} reviewed`;
    byId(`show-${name}`).hidden = !rows.length;
  };
  const sample = distinctRows(report.sampled.keys(), answers.matcher);
  show("sample", "Random sample", sample);
  show("chosen", "To learn from", distinctRows(report.chosenRows.keys(), answers.matcher));
  byId("accuracy").textContent = accuracyText(report, answers, sample);
  byId("review-sets").hidden = !report.sampled.size && !report.chosenRows.size;
}

// The options of the field `review` that select a set.
function reviewSetOptions(report) {
  return [
    ...(report.sampled.size ? [["sample", "random sample, to review"]] : []),
    ...(report.chosenRows.size ? [["chosen", "chosen to learn from"]] : []),
  ];
}

function listenToReviewSets(filter) {
  for (const review of ["sample", "chosen"])
    byId(`show-${review}`).addEventListener("click", () => filter({ review, sort: "review" }));
}
