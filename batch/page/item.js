// A row of the report, as a card with its picture or as a line of the list.

const LABEL_COLOURS = 8;

// A label has a dot in its colour; an abstain output has a shape of its own.
function answerMark(report, answer) {
  const label = report.labels.indexOf(answer);
  const look =
    label < 0
      ? { class: `dot ${answer}` }
      : { class: "dot", style: `background: var(--label-${label % LABEL_COLOURS})` };
  const text = element("bdi", {}, answerText(report, answer));
  return element("span", { class: "mark" }, element("span", look), text);
}

function rowMark(report, row) {
  const [answer, status] = [report.answer(row), report.status(row)];
  if (answer) return answerMark(report, answer);
  return element("span", { class: `mark status-${status}` }, report.statusTexts[status]);
}

// Makes the picture of a row, with the boxes of all faces of the photo that the report knows; the
// row's own box stands out. Boxes may have tags with their answers.
function pictureOf(report, row, hasTags = false) {
  const shown = report.shown.get(row);
  if (!shown?.file)
    return element("p", { class: "placeholder" }, shown?.note ?? "No picture in this page.");
  const [, , width, height] = shown.view;
  const frame = element(
    "div",
    { class: "frame", style: `--ratio: ${width / height}` },
    element("img", {
      src: `data:image/webp;base64,${shown.file}`,
      alt: report.name(row),
      decoding: "async",
    }),
  );
  const rows = report.rowsOfPhoto(row);
  // The row's own box comes last, above the others.
  for (const face of [...rows.filter((one) => one !== row), row])
    frame.append(boxOf(report, face, shown.view, face === row, hasTags && rows.length > 1));
  if (shown.note) frame.append(element("span", { class: "note" }, shown.note));
  return frame;
}

// Makes the box of a row, clipped to the view; empty if none of it is in the view.
function boxOf(report, row, [left, top, width, height], isOwn, hasTag) {
  const box = report.box(row);
  if (!box.length) return "";
  const clip = (begin, length, first, all) => {
    const start = Math.max(0, begin - first);
    return [start / all, (Math.min(all, begin + length - first) - start) / all];
  };
  const [x, across] = clip(box[0], box[2], left, width);
  const [y, down] = clip(box[1], box[3], top, height);
  if (across <= 0 || down <= 0) return "";
  const tag = `${report.rows.face[row]} ${outcomeText(report, row)}`;
  const percentOf = (share) => `${share * 100}%`;
  return element(
    "span",
    {
      class: isOwn ? "box own" : "box",
      "aria-hidden": "true",
      style:
        `left: ${percentOf(x)}; top: ${percentOf(y)}; ` +
        `width: ${percentOf(across)}; height: ${percentOf(down)}`,
    },
    hasTag ? element("bdi", { class: "tag" }, tag) : "",
  );
}

// The answer of a row, or its status if it has none.
function outcomeText(report, row) {
  const answer = report.answer(row);
  return answer ? answerText(report, answer) : report.statusTexts[report.status(row)];
}

function answerLine(report, row) {
  const line = element("p", { class: "answer" }, rowMark(report, row));
  if (report.confidence(row) >= 0)
    line.append(element("span", { class: "confidence" }, percent(report.confidence(row))));
  if (report.label(row) && report.status(row) !== "ok") {
    line.append(element("span", { class: "muted" }, report.statusTexts[report.status(row)]));
  }
  if (report.isReviewed(row)) line.append(element("span", { class: "muted" }, "reviewed"));
  if (report.missing.has(row)) line.append(element("span", { class: "muted" }, "missing"));
  const changed = report.changed.get(row);
  if (changed) {
    const { change, was, from } = changed;
    const place = from ? [`${change} from `, element("bdi", {}, from)] : [was ? "" : change];
    const answer = was ? `${from ? ", " : ""}was ${was}` : "";
    line.append(element("span", { class: "changed" }, ...place, answer));
  }
  return line;
}

// The list has no pictures to press, so there the name opens the enlarged photo.
function pathLine(report, row, isCard, open) {
  const name = element("bdi", {}, report.name(row));
  return element(
    "p",
    { class: "path", title: report.path(row) },
    isCard ? name : enlargeButton(report, row, "name", open, name),
    " ",
    element("bdi", { class: "muted" }, report.folder(row)),
  );
}

function enlargeButton(report, row, look, open, content) {
  return element(
    "button",
    {
      type: "button",
      class: look,
      tabindex: "-1", // Enter on the row does the same
      "aria-label": `Enlarge ${report.name(row)}`,
      onclick: () => open(row),
    },
    content,
  );
}

function makeItem(report, answers, row, isCard, open) {
  const item = element("li", { class: isCard ? "card" : "row" });
  const inside = element("div", { class: "inside" });
  if (isCard) inside.append(enlargeButton(report, row, "picture", open, pictureOf(report, row)));
  const path = pathLine(report, row, isCard, open);
  inside.append(element("div", { class: "words" }, answerLine(report, row), path));
  if (report.canReview(row)) inside.append(choicesFor(row, report, answers));
  else inside.append(element("p", { class: "error muted" }, report.errors.get(row) ?? ""));
  item.append(inside);
  item.classList.toggle("is-answered", answers.has(row));
  return item;
}
