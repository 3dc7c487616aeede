// The controls for the correct answer of a row: buttons for few labels, a list for many.

const MAX_BUTTONS = 4;
// An answer is a label or an abstain output.
const answerText = (report, answer) =>
  report.labels.includes(answer) ? answer : report.statusTexts[answer];

function choicesFor(row, report, answers) {
  const name = `Correct answer for ${report.name(row)}`;
  const controls =
    report.choices.length > MAX_BUTTONS
      ? [choiceList(row, report, answers, name)]
      : choiceButtons(row, report, answers);
  // An answer is taken back here or with a key, never by pressing it again.
  const clear = element(
    "button",
    {
      type: "button",
      class: "clear",
      title: "Clear the answer",
      "aria-label": `Clear the answer for ${report.name(row)}`,
      onclick: () => {
        group.querySelector("button, select").focus(); // the control is hidden next
        answers.set(row, undefined);
      },
    },
    "\u00d7",
  );
  const group = element(
    "div",
    { class: "choices", role: "group", "aria-label": name },
    ...controls,
    clear,
  );
  showChoice(group, answers.get(row), answers.canClear(row));
  return group;
}

function choiceButtons(row, report, answers) {
  return report.choices.map((label) =>
    element(
      "button",
      { type: "button", "data-label": label, onclick: () => answers.set(row, label) },
      answerText(report, label),
    ),
  );
}

function choiceList(row, report, answers, name) {
  const select = element("select", {
    "aria-label": name,
    onchange: () => answers.set(row, select.value),
  });
  fillOptions(select, [
    ["", "correct answer \u2026"],
    ...report.choices.map((label) => [label, answerText(report, label)]),
  ]);
  return select;
}

function showChoice(group, given, canClear) {
  for (const control of group.children) {
    if (control.tagName === "SELECT") {
      control.value = given ?? "";
      control.options[0].disabled = given !== undefined;
    } else if (control.className === "clear") {
      control.hidden = !canClear;
    } else {
      control.setAttribute("aria-pressed", String(control.dataset.label === given));
    }
  }
  group.classList.toggle("answered", given !== undefined);
}
