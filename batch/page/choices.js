// The controls for the correct answer of a row: buttons for few labels, a list for many.

const MAX_BUTTONS = 4;
// An answer is a label or an abstain output.
const answerText = (report, answer) =>
  report.labels.includes(answer) ? answer : report.statusTexts[answer];

function choicesFor(row, report, answers) {
  const name = `Correct answer for ${report.name(row)}`;
  const group =
    report.choices.length > MAX_BUTTONS
      ? choiceList(row, report, answers, name)
      : choiceButtons(row, report, answers, name);
  showChoice(group, answers.get(row));
  return group;
}

function choiceButtons(row, report, answers, name) {
  const press = (label) => answers.set(row, answers.get(row) === label ? undefined : label);
  return element(
    "div",
    { class: "choices", role: "group", "aria-label": name },
    ...report.choices.map((label) =>
      element(
        "button",
        { type: "button", "data-label": label, onclick: () => press(label) },
        answerText(report, label),
      ),
    ),
  );
}

function choiceList(row, report, answers, name) {
  const select = element("select", {
    "aria-label": name,
    onchange: () => answers.set(row, select.value || undefined),
  });
  fillOptions(select, [
    ["", "correct answer \u2026"],
    ...report.choices.map((label) => [label, answerText(report, label)]),
  ]);
  return element("div", { class: "choices" }, select);
}

function showChoice(group, given) {
  for (const control of group.children) {
    if (control.tagName === "SELECT") control.value = given ?? "";
    else control.setAttribute("aria-pressed", String(control.dataset.label === given));
  }
  group.classList.toggle("answered", given !== undefined);
}
