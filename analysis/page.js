"use strict";
// The table of trajectories and the reader. Text of the data reaches the page as text alone,
// through put() or textContent, so nothing in it is ever markup.
(() => {
  const STEP = 200;  // rows put into the page at once
  const COLUMNS = [  // key, heading, kind, digits
    ["weight", "weight", "number", 3],
    ["source", "source", "text"],
    ["origin", "origin", "text"],
    ["split", "split", "text"],
    ["n_turns", "turns", "number", 0],
    ["n_tokens", "tokens", "number", 0],
    ["base_nll", "base loss", "number", 3],
    ["reward", "reward", "number", 2],
    ["id", "id", "text"],
    ["line", "first words", "text"],
  ];
  const ON_NARROW = new Set(["weight", "source", "line"]);
  const ROW_FACTS = [
    ["weight", 3], ["source"], ["origin"], ["split"], ["task"], ["reward", 3], ["success"],
    ["base_nll", 3, "base loss"], ["score", 3], ["n_turns", 0, "turns"],
    ["n_tokens", 0, "tokens"], ["problems"],
  ];
  // controls, invisible format characters (those that turn the direction of writing among
  // them), lone surrogates, private use, and separators; line feeds and tabs are plain text
  const ACTIVE = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]/u;

  const { rows } = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const heaviest = Math.max(1e-9, ...rows.map((row) => row.weight ?? 0));
  let sorted = { key: "weight", falls: true };
  let shown = [];
  let limit = STEP;
  let at = -1;  // the row in the reader, its place in shown

  function make(tag, className, text) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) put(element, text);
    return element;
  }

  function put(element, value) {
    // Characters that could act are written out as escapes, set off from the text around them.
    let plain = "";
    const flush = () => {
      if (plain) element.append(document.createTextNode(plain));
      plain = "";
    };
    for (const character of String(value).replaceAll("\r\n", "\n")) {
      if (character === "\n" || character === "\t" || !ACTIVE.test(character)) {
        plain += character;
      } else {
        flush();
        const escape = document.createElement("span");
        escape.className = "control";
        escape.textContent = writtenOut(character.codePointAt(0));
        element.append(escape);
      }
    }
    flush();
    return element;
  }

  function writtenOut(code) {
    const hex = code.toString(16);
    if (code < 0x100) return "\\x" + hex.padStart(2, "0");
    return code < 0x10000 ? "\\u" + hex.padStart(4, "0") : "\\U" + hex.padStart(8, "0");
  }

  function number(value, digits) {
    if (value === null || value === undefined) return "-";
    return Number.isInteger(value) && digits === 0 ? String(value) : value.toFixed(digits);
  }

  function compare(one, two) {
    const [a, b] = [one[sorted.key] ?? null, two[sorted.key] ?? null];
    if (a === null || b === null) return (a === null) - (b === null);  // unknown stands last
    const order = a < b ? -1 : a > b ? 1 : 0;
    return sorted.falls ? -order : order;
  }

  function haystack(row) {
    // made when somebody first searches: most pages are never searched
    row.words ??= [
      row.id, row.task, row.source, row.line, row.problems,
      ...row.turns.flatMap((turn) => [
        turn.text, turn.reasoning, ...(turn.calls ?? []).flatMap((c) => [c.name, c.arguments]),
      ]),
    ].filter(Boolean).join("\n").toLowerCase();
    return row.words;
  }

  function choose() {
    const words = byId("search").value.trim().toLowerCase();
    const wanted = ["source", "origin", "split"].map((key) => [key, byId(key).value]);
    shown = rows.filter((row) =>
      wanted.every(([key, value]) => value === "" || row[key] === JSON.parse(value)) &&
      (!words || haystack(row).includes(words)));
    shown.sort(compare);
    limit = STEP;
    draw();
  }

  function draw() {
    const body = byId("rows").tBodies[0];
    body.replaceChildren(...shown.slice(0, limit).map(rowElement));
    for (const head of byId("rows").tHead.rows[0].cells) {
      if (head.dataset.key === sorted.key) {
        head.setAttribute("aria-sort", sorted.falls ? "descending" : "ascending");
      } else {
        head.removeAttribute("aria-sort");
      }
    }
    byId("order").value = sorted.key;
    byId("count").textContent = shown.length === rows.length
      ? `${rows.length} rows` : `${shown.length} of ${rows.length} rows`;
    const left = shown.length - limit;
    byId("more").hidden = left <= 0;
    byId("more").textContent = `Show ${Math.min(STEP, left)} more`;
  }

  function rowElement(row, place) {
    const line = document.createElement("tr");
    for (const [key, , kind, digits] of COLUMNS) {
      const side = ON_NARROW.has(key) ? "" : " more";
      const cell = make("td", `${kind} ${key}${side}`);
      if (key === "line") {
        const button = make("button", "", row.line || "(no words)");
        button.type = "button";
        cell.append(button);
      } else {
        put(cell, kind === "number" ? number(row[key], digits) : row[key] ?? "-");
      }
      if (key === "weight" && row.weight !== null) {
        const gauge = make("span", "gauge");
        const bar = make("i");
        bar.style.width = `${100 * row.weight / heaviest}%`;
        gauge.append(bar);
        cell.append(gauge);
      }
      line.append(cell);
    }
    line.addEventListener("click", () => open(place));
    return line;
  }

  function open(place) {
    at = place;
    const row = shown[at];
    byId("reader-title").replaceChildren();
    put(byId("reader-title"), row.id);
    byId("place").textContent = `${at + 1} of ${shown.length}`;
    byId("previous").disabled = at === 0;
    byId("next").disabled = at === shown.length - 1;
    byId("facts").replaceChildren(...ROW_FACTS.flatMap(([key, digits, name]) => {
      const value = row[key];
      if (value === null || value === undefined) return [];
      const pair = document.createElement("div");
      const told = typeof value === "number" ? number(value, digits) : String(value);
      pair.append(make("dt", "", name ?? key), make("dd", "", told));
      return [pair];
    }));
    const isTrained = row.split === "train" && row.weight > 0;
    byId("mask").textContent = isTrained
      ? "Turns marked as trained on are the assistant mask of this row, as far as the context reaches."
      : `No turn of this row is trained on: ${
        row.split === "train" ? "its weight is zero" : `it is in split ${row.split}`}.`;
    byId("turns").replaceChildren(
      ...row.turns.map((turn, index) => turnElement(turn, index, isTrained)));
    if (row.n_cut) {
      const cut = `${row.n_cut.toLocaleString("en")} more characters are not in this page.`;
      byId("turns").append(make("li", "note", cut));
    }
    if (!byId("reader").open) byId("reader").showModal();
    byId("read").scrollTop = 0;
    byId("read").focus();
  }

  function turnElement(turn, index, isTrained) {
    const item = make("li", isTrained && turn.trained ? "trained" : "");
    const head = make("div", "turn");
    head.append(make("span", "", index + 1), make("b", "", turn.role));
    if (turn.role === "assistant") {
      const told = !turn.trained ? "copied, never trained on" : isTrained ? "trained on" : "";
      if (told) head.append(make("span", "mask", told));
    }
    item.append(head);
    if (turn.reasoning) {
      item.append(make("div", "note", "reasoning"), make("div", "said reasoning", turn.reasoning));
    }
    if (turn.text) item.append(make("div", "said", turn.text));
    for (const call of turn.calls ?? []) {
      const box = make("div", "call");
      box.append(make("div", "note", `calls ${call.name}`), make("pre", "", pretty(call.arguments)));
      item.append(box);
    }
    if (!turn.text && !turn.reasoning && !turn.calls) item.append(make("div", "note", "(empty)"));
    return item;
  }

  function pretty(text) {
    // Only what was an object is set out; a number as long as JavaScript would round stays text.
    try {
      const value = JSON.parse(text);
      const whole = JSON.stringify(value);
      return whole === text && whole.length > 60 ? JSON.stringify(value, null, 2) : text;
    } catch {
      return text;
    }
  }

  function sortBy(key, falls) {
    sorted = { key, falls };
    shown.sort(compare);
    limit = STEP;
    draw();
  }

  const heads = byId("rows").tHead.rows[0];
  for (const [key, name, kind] of COLUMNS) {
    const head = make("th", `${kind}${ON_NARROW.has(key) ? "" : " more"}`);
    head.dataset.key = key;
    head.scope = "col";
    const button = make("button", "", name);
    button.type = "button";
    button.addEventListener("click", () => {
      // numbers begin with the greatest, names with the first
      sortBy(key, sorted.key === key ? !sorted.falls : kind === "number");
    });
    head.append(button);
    heads.append(head);
    byId("order").append(new Option(name, key));
  }
  for (const key of ["source", "origin", "split"]) {
    const select = byId(key);
    select.append(new Option("all", ""));
    for (const value of [...new Set(rows.map((row) => row[key]))].sort()) {
      const option = new Option("", JSON.stringify(value));
      put(option, value);  // an option shows text alone; its escapes lose their colour
      select.append(option);
    }
    select.addEventListener("change", choose);
  }
  byId("search").addEventListener("input", choose);
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("order").addEventListener("change", (event) => {
    const kind = COLUMNS.find(([key]) => key === event.target.value)[2];
    sortBy(event.target.value, kind === "number");
  });
  byId("more").addEventListener("click", () => {
    limit += STEP;
    draw();
  });
  byId("previous").addEventListener("click", () => open(at - 1));
  byId("next").addEventListener("click", () => open(at + 1));
  byId("close").addEventListener("click", () => byId("reader").close());
  byId("reader").addEventListener("click", (event) => {
    if (event.target === byId("reader")) byId("reader").close();  // beside the panel
  });
  byId("reader").addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft" && at > 0) open(at - 1);
    if (event.key === "ArrowRight" && at < shown.length - 1) open(at + 1);
  });

  const dark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
  const tell = () => {
    byId("theme").textContent = isDark() ? "Light" : "Dark";
    byId("theme").setAttribute("aria-pressed", String(isDark()));
  };
  byId("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    tell();
  });
  dark.addEventListener("change", tell);
  tell();
  choose();
})();
