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

function pictureOf(report, row) {
  const shown = report.shown.get(row);
  if (!shown?.file)
    return element("p", { class: "placeholder" }, shown?.note ?? "No picture in this page.");
  const [left, top, width, height] = shown.view;
  const frame = element(
    "div",
    { class: "frame", style: `--ratio: ${width / height}` },
    element("img", {
      src: `data:image/webp;base64,${shown.file}`,
      alt: report.name(row),
      decoding: "async",
    }),
  );
  const box = report.box(row);
  if (box.length) {
    const per = (value, all) => `${(value / all) * 100}%`;
    frame.append(
      element("span", {
        class: "box",
        "aria-hidden": "true",
        style:
          `left: ${per(box[0] - left, width)}; top: ${per(box[1] - top, height)}; ` +
          `width: ${per(box[2], width)}; height: ${per(box[3], height)}`,
      }),
    );
  }
  if (shown.note) frame.append(element("span", { class: "note" }, shown.note));
  return frame;
}

function answerLine(report, row) {
  const line = element("p", { class: "answer" }, rowMark(report, row));
  if (report.confidence(row) >= 0)
    line.append(element("span", { class: "confidence" }, percent(report.confidence(row))));
  if (report.label(row) && report.status(row) !== "ok") {
    line.append(element("span", { class: "muted" }, report.statusTexts[report.status(row)]));
  }
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

function pathLine(report, row) {
  return element(
    "p",
    { class: "path", title: report.path(row) },
    element("bdi", {}, report.name(row)),
    " ",
    element("bdi", { class: "muted" }, report.folder(row)),
  );
}

function makeItem(report, answers, row, isCard, open) {
  const item = element("li", { class: isCard ? "card" : "row" });
  const inside = element("div", { class: "inside" });
  if (isCard) {
    inside.append(
      element(
        "button",
        {
          type: "button",
          class: "picture",
          tabindex: "-1",
          "aria-label": `Enlarge ${report.name(row)}`,
          onclick: () => open(row),
        },
        pictureOf(report, row),
      ),
    );
  }
  inside.append(element("div", { class: "words" }, answerLine(report, row), pathLine(report, row)));
  if (report.canReview(row)) inside.append(choicesFor(row, report, answers));
  else inside.append(element("p", { class: "error muted" }, report.errors.get(row) ?? ""));
  item.append(inside);
  item.classList.toggle("is-answered", answers.get(row) !== undefined);
  return item;
}
