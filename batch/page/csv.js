// CSV (RFC 4180): fields are written, and files parsed.

function csvField(text) {
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

// Parses CSV strictly. Returns records with the number of their first line and either their cells
// or the fault; nothing is read after an unclosed quote.
function parseCsv(text) {
  const field = /"([^"]*(?:""[^"]*)*)"(?=[,\r\n]|$)|([^",\r\n]*)(?=[,\r\n]|$)/y;
  const records = [];
  let [at, line] = [0, 1];
  while (at < text.length) {
    const record = { line, cells: [] };
    for (;;) {
      field.lastIndex = at;
      const found = field.exec(text);
      if (!found) {
        record.fault = "has a stray or unclosed quote";
        const isQuoted = text[at] === '"';
        const end = isQuoted ? -1 : text.indexOf("\n", at);
        at = end < 0 ? text.length : end;
        if (isQuoted) record.fault += "; the lines after it are not read";
        break;
      }
      record.cells.push(found[1]?.replaceAll('""', '"') ?? found[2]);
      line += found[0].split("\n").length - 1;
      at = field.lastIndex;
      if (text[at] !== ",") break;
      at++;
    }
    if (text[at] === "\r") at++;
    if (text[at] === "\n") at++;
    line++;
    if (record.fault || record.cells.length > 1 || record.cells[0]) records.push(record);
  }
  return records;
}
