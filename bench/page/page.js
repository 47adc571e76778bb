"use strict";
// Draws the page from the JSON beside it. Names and messages only ever become text nodes and attributes.
(() => {
  const DATA = JSON.parse(document.getElementById("data").textContent);
  const PARTS = { tasks: "Tasks", summary: "Summary", cost: "Cost" };
  const ALPHA = 0.05;
  const INK = "#222222";
  const place = (id) => document.getElementById(id);
  const [main, nav, details, tip, theme] = ["main", "suites", "details", "tip", "theme"].map(place);
  let suite = DATA.suites[0];
  let figures = null; // draws the figures anew, after a resize

  // -- elements -------------------------------------------------------------------------------------------------------

  const there = (child) => child !== null && child !== undefined && child !== false;
  function fill(node, attributes, children) {
    for (const [key, value] of Object.entries(attributes || {})) {
      if (!there(value)) continue;
      if (typeof value === "function") node.addEventListener(key, value);
      else node.setAttribute(key, value === true ? "" : value);
    }
    node.append(...children.flat(Infinity).filter(there));
    return node;
  }
  const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
  const s = (tag, attributes, ...children) =>
    fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

  // -- numbers and words ----------------------------------------------------------------------------------------------

  const known = (x) => x !== undefined && x !== null;
  const fixed = (x, digits = 1) => {
    const text = x.toFixed(digits);
    return Number(text) === 0 ? text.replace("-", "") : text;
  };
  const percent = (x, digits = 1) => fixed(100 * x, digits);
  const signed = (x) => (x > 0 && Number(percent(x)) !== 0 ? "+" : "") + percent(x);
  const pValue = (p) => (p < 0.001 ? "< 0.001" : `= ${p.toFixed(3)}`);
  const plain = (x) => {
    if (x === 0) return "0";
    return Math.abs(x) < 0.001 ? x.toPrecision(2) : Number(x.toPrecision(4)).toLocaleString("en");
  };
  const capital = (text) => text[0].toUpperCase() + text.slice(1);
  const short = (text, letters) =>
    text.length > letters ? `${text.slice(0, Math.max(3, Math.floor(letters) - 1))}…` : text;
  const heading = (column) => column.title + (column.unit && column.kind === "number" ? ` (${column.unit})` : "");
  const marks = (notes) => (notes && notes.length ? h("sup", {}, ` ${notes.join(",")}`) : null);
  const interval = (low, high, unit) =>
    known(low) && known(high) ? [`95 % interval: ${percent(low)} to ${percent(high)} ${unit}`] : [];

  /** What there is to say about an entry, line by line. */
  function about(entry, column) {
    const lines = interval(entry.l, entry.h, column.unit);
    if (known(entry.c)) lines.push(`p ${pValue(entry.c)} with Holm's correction`);
    if (known(entry.p)) lines.push(`p ${pValue(entry.p)}${known(entry.c) ? " without it" : ""}`);
    if (entry.s) lines.push(entry.s === "best" ? "the best of its column" : "not separated from the best of its column");
    for (const n of entry.n || []) lines.push(suite.footnotes[n - 1]);
    return lines;
  }

  // -- hints on hover and focus ---------------------------------------------------------------------------------------

  const hints = new WeakMap(); // element -> lines of its hint
  let hinted = null;

  function hint(node, lines) {
    node.setAttribute("data-tip", "");
    hints.set(node, lines);
    return node;
  }

  function show(node) {
    if (node === hinted) return;
    if (hinted) hinted.removeAttribute("aria-describedby");
    hinted = node;
    tip.hidden = !node;
    if (!node) return;
    node.setAttribute("aria-describedby", "tip");
    tip.replaceChildren(...hints.get(node).map((line) => h("div", {}, line)));
    settle();
  }

  /** The hint goes where its element is, and away where that was left behind by scrolling. */
  function settle() {
    if (!hinted) return;
    if (hinted !== document.activeElement && !hinted.matches(":hover")) {
      show(null);
      return;
    }
    const at = hinted.getBoundingClientRect();
    const box = tip.getBoundingClientRect();
    const left = Math.min(Math.max(6, at.left + at.width / 2 - box.width / 2), innerWidth - box.width - 6);
    const above = at.top - box.height - 8;
    tip.style.left = `${left}px`;
    tip.style.top = `${above > 4 ? above : at.bottom + 8}px`;
  }

  const tipped = (event) => (event.target instanceof Element ? event.target.closest("[data-tip]") : null);
  const attended = () => document.activeElement.closest("[data-tip]:focus-visible"); // what the keyboard is at
  document.addEventListener("pointerover", (event) => show(tipped(event) || attended()));
  document.addEventListener("focusin", (event) => show(tipped(event)));
  document.addEventListener("focusout", () => show(null));
  document.addEventListener("scroll", settle, true);
  document.addEventListener("keydown", (event) => event.key === "Escape" && show(null));

  // -- one tab stop for many: arrows move among them ------------------------------------------------------------------

  const visible = (node) => Boolean(node && node.getClientRects().length);

  function become(group, node) {
    for (const other of group.querySelectorAll('[tabindex="0"]')) other.setAttribute("tabindex", "-1");
    node.setAttribute("tabindex", "0");
  }

  function grid(table) {
    const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    table.addEventListener("focusin", (event) => event.target.matches("button") && become(table, event.target));
    table.addEventListener("keydown", (event) => {
      const cell = event.target.closest("th, td");
      if (!cell || event.ctrlKey || event.metaKey || event.altKey) return;
      const rows = [...table.rows].filter((row) => visible(row) && row.querySelector("button"));
      let [row, column] = [rows.indexOf(cell.parentNode), cell.cellIndex];
      let target = null;
      if (steps[event.key]) {
        do { // past what is switched off, and past cells that hold nothing
          row += steps[event.key][0];
          column += steps[event.key][1];
          target = rows[row] && rows[row].cells[column] && rows[row].cells[column].querySelector("button");
        } while (rows[row] && rows[row].cells[column] && !visible(target));
      } else if (event.key === "Home" || event.key === "End") {
        const all = [...cell.parentNode.querySelectorAll("button")].filter(visible);
        target = event.key === "Home" ? all[0] : all[all.length - 1];
      } else return;
      event.preventDefault();
      if (target) target.focus();
    });
    const first = table.querySelector("button");
    if (first) first.setAttribute("tabindex", "0");
    return table;
  }

  // not on the svg: a listener for focus would make it a stop of its own
  document.addEventListener("focusin", (event) => {
    const point = event.target.closest(".charts svg [data-tip]");
    if (point) become(point.ownerSVGElement, point);
  });

  function points(svg) {
    const steps = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 };
    const all = [...svg.querySelectorAll("[data-tip]")];
    all.forEach((node, i) => node.setAttribute("tabindex", i ? "-1" : "0"));
    svg.addEventListener("keydown", (event) => {
      if (!steps[event.key]) return;
      event.preventDefault();
      const next = all[all.indexOf(event.target) + steps[event.key]];
      if (next) next.focus();
    });
    return svg;
  }

  // -- leaderboards ---------------------------------------------------------------------------------------------------

  function board(block, index, sorted) {
    const columns = block.columns;
    const starts = columns.map((column, j) => j === 0 || column.part !== columns[j - 1].part);
    const groups = [];
    columns.forEach((column, j) => {
      if (starts[j]) groups.push([column.part, 1]);
      else groups[groups.length - 1][1] += 1;
    });
    const head = (j, text, unit) =>
      h("th", { scope: "col", "aria-sort": "none", "data-part": j < 0 ? null : columns[j].part, class: starts[j] && "first" },
        h("button", { type: "button", tabindex: "-1", click: (event) => sorted(index, j, event.currentTarget.parentNode) },
          text, unit && h("small", {}, unit)));
    const number = (row, entry, j) => {
      const column = columns[j];
      const state = entry.s || (known(entry.v) ? "" : entry.t === "failed" ? "failed" : "hole");
      const button = h("button", { type: "button", tabindex: "-1", click: () => openEntry(row, block, column, entry) },
        entry.t || "\u00a0", marks(entry.n));
      hint(button, [`${row.title}, ${heading(column)}: ${entry.t || ""}`, ...about(entry, column)]);
      return h("td", { class: `${state}${starts[j] ? " first" : ""}`, "data-part": column.part }, button);
    };
    const line = (row, i) =>
      h("tr", { "data-index": i },
        h("th", { scope: "row" },
          h("button", { type: "button", tabindex: "-1", click: () => openRow(row) }, row.title, marks(row.notes))),
        block.entries[i].map((entry, j) => number(row, entry, j)));
    const group = ([part, span]) =>
      h("th", { scope: "colgroup", colspan: span, class: "group first", "data-part": part }, PARTS[part]);
    const table = h("table", { class: "board", role: "grid" },
      h("thead", {},
        groups.length > 1 && h("tr", {}, h("td", {}), groups.map(group)),
        h("tr", {}, head(-1, "Method"),
          columns.map((column, j) => head(j, column.title, column.kind === "number" ? column.unit : "")))),
      h("tbody", {}, suite.rows.map(line)));
    return h("section", {}, block.title && h("h3", {}, block.title),
      h("div", { class: "scroll", role: "region", "aria-label": block.title || suite.title }, grid(table)));
  }

  /** Sorts all tables of the suite by one column: the better end first, then the other, then as it was. */
  function sorter(tables) {
    let now = { block: -1, column: -1, direction: 0 };
    return (block, column, header) => {
      const kind = column < 0 ? "name" : suite.blocks[block].columns[column].kind;
      const first = kind === "accuracy" || kind === "difference" ? -1 : 1;
      const same = now.block === block && now.column === column;
      const direction = !same || !now.direction ? first : now.direction === first ? -first : 0;
      now = { block, column, direction };
      const value = (i) => (column < 0 ? suite.rows[i].title : suite.blocks[block].entries[i][column].v);
      const order = suite.rows.map((_, i) => i);
      if (direction) {
        order.sort((a, b) => {
          const [x, y] = [value(a), value(b)];
          if (!known(x) || !known(y)) return known(y) - known(x) || a - b; // holes last
          return direction * (column < 0 ? x.localeCompare(y, "en") : x - y) || a - b;
        });
      }
      for (const other of tables.querySelectorAll("[aria-sort]")) other.setAttribute("aria-sort", "none");
      header.setAttribute("aria-sort", direction < 0 ? "descending" : direction > 0 ? "ascending" : "none");
      for (const body of tables.querySelectorAll("tbody")) {
        const lines = new Map([...body.rows].map((line) => [Number(line.dataset.index), line]));
        body.append(...order.map((i) => lines.get(i)));
      }
    };
  }

  function tools(tables) {
    const search = h("input", {
      type: "search", placeholder: "Filter rows", "aria-label": "Filter rows", input: () => apply(),
    });
    const count = h("output", { class: "soft" });
    const boxes = [];
    const choices = (name, key) => {
      const values = [...new Set(suite.rows.map((row) => row.facts[key] || ""))].filter(Boolean);
      if (values.length < 2) return null;
      return h("fieldset", {}, h("legend", {}, name), values.map((value) => {
        const box = h("input", { type: "checkbox", checked: true, change: () => apply() });
        boxes.push([key, value, box]);
        return h("label", {}, box, value);
      }));
    };
    function apply() {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      let seen = 0;
      suite.rows.forEach((row, i) => {
        const { method, family, setting, backbone } = row.facts;
        const text = [row.title, method, family, setting, backbone].join(" ").toLowerCase();
        const chosen = boxes.every(([key, value, box]) => box.checked || row.facts[key] !== value);
        const wanted = chosen && words.every((word) => text.includes(word));
        seen += wanted;
        for (const line of tables.querySelectorAll(`tr[data-index="${i}"]`)) line.hidden = !wanted;
      });
      count.textContent = `${seen} of ${suite.rows.length} rows`;
    }
    const has = (part) => suite.blocks.some((block) => block.columns.some((column) => column.part === part));
    const toggle = (part) =>
      h("button", { type: "button", class: "chip", "aria-pressed": "true", click: (event) => {
        const off = tables.classList.toggle(`no-${part}`);
        event.currentTarget.setAttribute("aria-pressed", String(!off));
      } }, PARTS[part]);
    apply();
    return h("div", { class: "tools", role: "search" }, h("div", {}, search, count), choices("Kind", "setting"),
      choices("Backbone", "backbone"),
      h("div", { role: "group", "aria-label": "Columns" }, Object.keys(PARTS).filter(has).map(toggle)));
  }

  // -- details --------------------------------------------------------------------------------------------------------

  function open(title, ...content) {
    show(null);
    const close = h("button", { type: "button", class: "close", click: () => details.close() }, "Close");
    const top = h("div", { class: "top" }, h("h2", { id: "details-title" }, title), close);
    details.replaceChildren(top, ...content.flat(Infinity).filter(there));
    details.showModal();
    details.scrollTop = 0;
  }
  details.addEventListener("click", (event) => event.target === details && details.close());

  function said(value) {
    if (Array.isArray(value)) return value.map(said).join(", ");
    if (value && typeof value === "object") {
      return Object.entries(value).map(([key, item]) => `${key} ${said(item)}`).join(", ");
    }
    return String(value);
  }
  const list = (pairs) =>
    h("dl", {}, pairs.filter(([, value]) => known(value) && said(value) !== "")
      .map(([key, value]) => [h("dt", {}, key), h("dd", {}, said(value))]));

  const COSTS = {
    fit_s: "fit, s", encode_support_s: "encode the support, s", encode_ms: "encode, ms a picture",
    adapt_ms: "adapt, ms a picture", predict_ms: "predict, ms a picture", memory_fit_mib: "memory of the fit, MiB",
    memory_predict_mib: "memory of the answers, MiB", memory_how: "memory measured by",
    image_forwards: "image forwards", text_forwards: "text forwards", text_backwards: "text backwards",
    gflop_per_image: "GFLOP a picture",
  };

  function cell(one) {
    const right = known(one.accuracy) ? `${percent(one.accuracy)} %` : one.status;
    const box = h("details", { class: `cell ${one.status}` },
      h("summary", {}, `${one.task}, seed ${one.seed}: ${right}`));
    box.addEventListener("toggle", () => {
      if (box.childElementCount > 1) return;
      const cost = Object.entries(one.cost || {})
        .map(([key, value]) => [COSTS[key] || key, typeof value === "number" ? plain(value) : value]);
      const told = [
        ["cell", one.id], ["status", one.status], ["pictures", one.images],
        ["accuracy", known(one.accuracy) ? `${percent(one.accuracy, 2)} %` : null],
        ["ECE", known(one.ece) ? `${percent(one.ece, 2)} %` : null],
        ["notes", (one.notes || []).join("; ")], ["finished", one.finished],
      ];
      box.append(...[
        one.error && h("p", {}, one.error),
        one.traceback && h("pre", { tabindex: "0", role: "region", "aria-label": "Traceback" }, one.traceback),
        list(told),
        one.status === "done" && [h("h4", {}, "Cost"), list(cost)],
        h("h4", {}, "Provenance"),
        list(Object.entries(suite.environments[one.environment] || {})),
      ].flat(Infinity).filter(Boolean));
    });
    return box;
  }

  function facts(row) {
    const { fields, replicates, chosen_by: chosen, ...others } = row.facts;
    let values = fields;
    try {
      values = Object.entries(JSON.parse(fields)).map(([key, value]) => `${key} = ${JSON.stringify(value)}`).join(", ");
    } catch { /* shown as it is */ }
    return list([...Object.entries(others), ["seeds", replicates], ["hyper-parameters", values], ["chosen by", chosen]]);
  }

  const cells = (found) =>
    found.length ? [h("h4", {}, `Stored cells (${found.length})`), found.map(cell)]
      : h("p", { class: "soft" }, "No stored cells.");

  function openRow(row) {
    open(row.title, (row.notes || []).map((n) => h("p", {}, suite.footnotes[n - 1])), facts(row), cells(row.cells));
  }

  function openEntry(row, block, column, entry) {
    const found = column.tasks.length ? row.cells.filter((one) => column.tasks.includes(one.task)) : row.cells;
    const where = [block.title, heading(column)].filter(Boolean).join(", ");
    const unit = column.unit && known(entry.v) ? ` ${column.unit}` : "";
    open(`${row.title}: ${where}`, h("p", {}, `${entry.t || "–"}${unit}`),
      about(entry, column).map((line) => h("p", { class: "soft" }, line)), cells(found),
      h("h4", {}, "Method"), facts(row));
  }

  // -- marks and axes -------------------------------------------------------------------------------------------------

  const look = (row) => suite.rows[row].look;
  const colour = (row) => (look(row)[0] === INK ? "currentColor" : look(row)[0]);
  const dashes = (row) => (look(row)[2].length ? look(row)[2].map((x) => 1.6 * x).join(" ") : null);
  const SHAPES = {
    o: "M1 0A1 1 0 1 1-1 0A1 1 0 1 1 1 0Z", s: "M-.9-.9H.9V.9H-.9Z", D: "M0-1.25L1.25 0L0 1.25L-1.25 0Z",
    "^": "M0-1.15L1.1.85H-1.1Z", v: "M0 1.15L1.1-.85H-1.1Z", "<": "M-1.15 0L.85-1.1V1.1Z", ">": "M1.15 0L-.85-1.1V1.1Z",
    P: "M-.4-1.2H.4V-.4H1.2V.4H.4V1.2H-.4V.4H-1.2V-.4H-.4Z",
    X: "M-1.1-.6L-.6-1.1L0-.5L.6-1.1L1.1-.6L.5 0L1.1.6L.6 1.1L0 .5L-.6 1.1L-1.1.6L-.5 0Z",
  };
  const shape = (row, x, y, size, hollow) =>
    s("path", {
      d: SHAPES[look(row)[1]], transform: `translate(${x} ${y}) scale(${size})`, fill: hollow ? null : colour(row),
      class: hollow && "empty", stroke: colour(row), "stroke-width": hollow ? 1.6 / size : 0,
    });
  const stroke = (row, x1, y1, x2, y2, width = 1.4, opacity = 0.55) =>
    s("line", { x1, y1, x2, y2, stroke: colour(row), "stroke-width": width, "stroke-opacity": opacity });

  /** A point of a figure: its interval, its mark, room to hit it, and a hint. */
  function spot(row, x, y, lines, size, bar, hollow) {
    const attributes = { "data-row": row, role: "img", "aria-label": lines.join(". ") };
    return hint(s("g", attributes, bar, shape(row, x, y, size, hollow), s("circle", { class: "hit", cx: x, cy: y, r: 9 })), lines);
  }
  const corrected = (p) => (known(p) ? [`p ${pValue(p)} with Holm's correction`] : []);

  function scaled(low, high, from, to, log) {
    const f = log ? Math.log10 : (x) => x;
    const [a, b] = [f(low), f(high)];
    return (x) => from + ((f(x) - a) / (b - a || 1)) * (to - from);
  }
  function ticks(low, high, count) {
    const rough = (high - low) / count || 1;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].find((m) => m * power >= rough * 0.999) * power;
    const found = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k += 1) {
      found.push(Number((k * step).toPrecision(12)));
    }
    return found;
  }
  function logTicks(low, high) {
    const found = [];
    for (let e = Math.floor(Math.log10(low)); e <= Math.log10(high); e += 1) {
      for (const m of high / low < 1000 ? [1, 2, 5] : [1]) found.push(Number((m * 10 ** e).toPrecision(12)));
    }
    const inside = found.filter((x) => x >= low && x <= high);
    return inside.length > 2 ? inside : ticks(low, high, 5);
  }
  const worded = (found) => found.map((x) => [x, plain(x)]);
  function around(values, share = 0.06) {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const room = share * (high - low) || 1;
    return [low - room, high + room];
  }
  /** All numbers of these points in percent, with or without the ends of their intervals. */
  const ends = (found, whole) =>
    found.flatMap(([, , v, l, u]) => (whole ? [v, l, u] : [v]).filter(known).map((x) => 100 * x));

  function frame(width, height, box, x, y, xs, ys, labels) {
    const [left, top, right, bottom] = box;
    return s("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": labels.name },
      ys.map(([at, text]) => [s("line", { class: "grid", x1: left, x2: right, y1: y(at), y2: y(at) }),
        s("text", { class: "soft", x: left - 6, y: y(at) + 4, "text-anchor": "end" }, text)]),
      s("path", { class: "axis", d: `M${left} ${top}V${bottom}H${right}` }),
      xs.map(([at, text]) => [s("line", { class: "axis", x1: x(at), x2: x(at), y1: bottom, y2: bottom + 4 }),
        s("text", { class: "soft", x: x(at), y: bottom + 17, "text-anchor": "middle" }, text)]),
      labels.x && s("text", { x: (left + right) / 2, y: bottom + 35, "text-anchor": "middle" }, labels.x),
      labels.title && s("text", { x: left, y: top - 8 }, labels.title));
  }

  /** Heights as near to these as they can be without coming closer than `gap`, in the same order. */
  function apart(heights, gap, top, bottom) {
    const order = heights.map((_, i) => i).sort((a, b) => heights[a] - heights[b]);
    const found = [...heights];
    order.forEach((i, k) => { found[i] = Math.max(found[i], k ? found[order[k - 1]] + gap : top); });
    let limit = bottom;
    for (const i of order.reverse()) {
      found[i] = Math.min(found[i], limit);
      limit = found[i] - gap;
    }
    return found;
  }

  // -- figures: each draws the rows that are not hidden, or nothing ---------------------------------------------------

  function cost(chart, width, hidden) {
    const shown = chart.panels[0].points.filter(([row]) => !hidden.has(row));
    if (!shown.length) return null;
    const xs = shown.map(([, x]) => x);
    const range = [Math.min(...xs) / 1.35, Math.max(...xs) * 1.7];
    const axis = { range, log: true, steps: worded(logTicks(...range)) };
    const best = (row) => chart.joined[0].includes(row);
    const said = (row, at) => [`${plain(at)} ms a picture`, best(row) ? "on the Pareto front" : "not on the Pareto front"];
    return scatter(chart, shown, width, axis, said, chart.joined[0]);
  }

  function size(chart, width, hidden) {
    const places = chart.ticks.map(([x]) => x);
    const axis = { range: around(places, 0.1), log: false, steps: chart.ticks };
    const panels = chart.panels.map((panel) => {
      const rows = panel.points.filter(([row]) => !hidden.has(row));
      const alike = (at) => rows.filter(([, x]) => x === at);
      // rows with equally many stand side by side
      const shown = rows.map(([row, at, ...rest]) => {
        const beside = alike(at).findIndex((other) => other[0] === row) - (alike(at).length - 1) / 2;
        return [row, at + 0.04 * beside, ...rest];
      });
      const sizes = new Map(rows.map(([row, at]) => [row, spoken(chart, at)]));
      const said = (row) => [`${sizes.get(row)} trained parameters`];
      return shown.length && scatter(chart, shown, width, axis, said, null, panel.title);
    }).filter(Boolean);
    return panels.length ? panels : null;
  }

  function robustness(chart, width, hidden) {
    const shown = chart.panels[0].points.filter(([row]) => !hidden.has(row));
    if (!shown.length) return null;
    const range = around(shown.map(([, x]) => x), 0.12);
    const axis = { range, log: false, steps: worded(ticks(...range, 6)) };
    const said = (row, at) => [`${plain(at)} % in distribution`];
    return scatter(chart, shown, width, axis, said, null, "", chart.joined);
  }

  /** Points with their names where there is room; `front`: the rows that a line joins, the others are hollow. */
  function scatter(chart, shown, width, axis, said, front, title, groups = []) {
    const height = 400;
    const box = [44, title ? 30 : 16, width - 12, height - 46];
    const [low, high] = around(ends(shown, true));
    const x = scaled(...axis.range, box[0], box[2], axis.log);
    const y = scaled(low, high, box[3], box[1]);
    const labels = { x: chart.x, title, name: title ? `${chart.title}: ${title}` : chart.title };
    const svg = frame(width, height, box, x, y, axis.steps, worded(ticks(low, high, 6)), labels);
    const joined = (front || []).map((row) => shown.find((point) => point[0] === row)).filter(Boolean);
    if (joined.length) {
      const steps = joined.map(([, at, v], k) => `${k ? "H" : "M"}${x(at)}${k ? "V" : " "}${y(100 * v)}`).join("");
      svg.append(s("path", { class: "front", d: `${steps}H${box[2]}` }));
    }
    for (const rows of groups) {
      const ends = rows.map((row) => shown.find((point) => point[0] === row)).filter(Boolean);
      svg.append(s("path", { class: "front", d: `M${ends.map(([, at, v]) => `${x(at)} ${y(100 * v)}`).join("L")}` }));
    }
    const taken = shown.map(([, at, v]) => [x(at) - 7, y(100 * v) - 7, x(at) + 7, y(100 * v) + 7]);
    const line = joined.map(([, at, v], k) => [x(at), y(100 * v), k + 1 < joined.length ? x(joined[k + 1][1]) : box[2], y(100 * v)]);
    const names = [];
    for (const [row, at, v, l, u] of shown) {
      const [px, py] = [x(at), y(100 * v)];
      const title = suite.rows[row].title;
      const lines = [title, `${percent(v)} %`, ...interval(l, u, "%"), ...said(row, at)];
      const bar = known(l) && known(u) ? stroke(row, px, y(100 * l), px, y(100 * u)) : null;
      svg.append(spot(row, px, py, lines, 5.5, bar, front && !front.includes(row)));
      const wide = 6.9 * title.length + 4;
      const left = px - 10 - wide;
      const off = (boxes) => ([from, base]) =>
        boxes.every(([a, b, c, d]) => from > c || from + wide < a || base - 11 > d || base + 3 < b);
      const room = [[px + 10, py + 4], [left, py + 4], [px + 8, py - 10], [px + 8, py + 18], [left, py - 10], [left, py + 18]]
        .filter(([from]) => from > box[0] && from + wide < width).filter(off(taken));
      const free = room.find(off(line)) || room[0];
      if (free) { // a name that has no room is in the hint alone
        taken.push([free[0], free[1] - 11, free[0] + wide, free[1] + 3]);
        names.push(s("text", { class: "name", "data-row": row, x: free[0], y: free[1] }, title));
      }
    }
    svg.append(...names);
    return points(svg);
  }

  /** What a place on the x axis is called; sizes stand at their logarithms. */
  function spoken(chart, x) {
    return new Map(chart.ticks || []).get(x) || plain(chart.name === "size" ? Math.round(10 ** x) : x);
  }

  function ranks(chart, width, hidden) {
    const shown = chart.panels[0].points.filter(([row]) => !hidden.has(row)).sort((a, b) => a[1] - b[1] || a[0] - b[0]);
    if (!shown.length) return null;
    const total = chart.panels[0].points.length;
    const [step, top] = [24, 58];
    const height = top + step * shown.length + 6;
    const left = Math.min(250, 0.45 * width);
    const at = new Map(shown.map(([row], i) => [row, i]));
    const groups = (chart.joined || []).map((group) => group.filter((row) => at.has(row)).map((row) => at.get(row)))
      .filter((places) => places.length > 1).map((places) => [Math.min(...places), Math.max(...places)]);
    const right = width - 16 - 11 * groups.length;
    const x = scaled(1, total, left, right);
    const end = x(1 + chart.critical);
    const svg = s("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": chart.title },
      s("path", { class: "axis", d: `M${left} ${top - 12}H${right}` }),
      ticks(1, total, Math.min(total, (right - left) / 40)).filter(Number.isInteger).map((t) => [
        s("line", { class: "grid", x1: x(t), x2: x(t), y1: top - 12, y2: height }),
        s("text", { class: "soft", x: x(t), y: top - 18, "text-anchor": "middle" }, plain(t))]),
      s("path", { class: "zero", fill: "none", d: `M${left} 10V18M${left} 14H${end}M${end} 10V18` }),
      s("text", { x: left - 14, y: 18, "text-anchor": "end" }, `critical difference ${chart.critical.toFixed(2)}`),
      groups.map(([a, b], k) => {
        const bar = right + 14 + 11 * k;
        return s("line", { x1: bar, x2: bar, y1: top + step * a + 4, y2: top + step * b + step - 4, stroke: "currentColor", "stroke-width": 4 });
      }));
    shown.forEach(([row, rank], i) => {
      const py = top + step * i + step / 2;
      const title = suite.rows[row].title;
      svg.append(s("text", { "data-row": row, x: left - 14, y: py + 4, "text-anchor": "end" }, short(title, (left - 14) / 6.6)),
        spot(row, x(rank), py, [title, `${chart.x}: ${rank.toFixed(2)}`], 5.5, null));
    });
    return points(svg);
  }

  function curves(chart, width, hidden) {
    const names = new Map(chart.ticks || []);
    const kept = chart.panels
      .map((panel) => ({ ...panel, points: panel.points.filter(([row]) => !hidden.has(row)) }))
      .filter((panel) => panel.points.length);
    if (!kept.length) return null;
    const all = chart.panels.flatMap((panel) => panel.points.map(([, x]) => x));
    const xs = [...new Set(names.size ? names.keys() : all)].sort((a, b) => a - b);
    const across = Math.max(1, Math.floor(width / 250));
    const [first, ...others] = kept;

    function draw(panel, wide, height, values, large) {
      const unit = panel.y ? "points" : "%";
      const roomy = large && wide > 560; // there is room for names at the right
      const box = [40, 26, wide - (roomy ? 230 : 14), height - 44];
      const [low, high] = around(values);
      const x = scaled(...around(xs, 0.05), box[0], box[2]);
      const y = scaled(low, high, box[3], box[1]);
      const labels = { x: large && chart.x, title: panel.title, name: `${chart.title}: ${panel.title}` };
      const steps = xs.map((t) => [t, names.get(t) || plain(t)]);
      const svg = frame(wide, height, box, x, y, steps, worded(ticks(low, high, large ? 7 : 4)), labels);
      if (panel.y && low < 0 && high > 0) svg.append(s("line", { class: "zero", x1: box[0], x2: box[2], y1: y(0), y2: y(0) }));
      const rows = [...new Set(panel.points.map(([row]) => row))];
      const last = [];
      rows.forEach((row, i) => {
        const mine = panel.points.filter((point) => point[0] === row);
        const shift = large ? (i - (rows.length - 1) / 2) * Math.min(5, 26 / rows.length) : 0;
        const line = mine.map(([, at, v]) => `${x(at) + shift},${y(100 * v)}`).join(" ");
        svg.append(s("polyline", { "data-row": row, points: line, fill: "none", stroke: colour(row), "stroke-width": 1.8, "stroke-dasharray": dashes(row) }));
        for (const [, at, v, l, u, c] of mine) {
          const px = x(at) + shift;
          const bar = large && known(l) && known(u) ? stroke(row, px, y(100 * l), px, y(100 * u), 1, 0.45) : null;
          const lines = [suite.rows[row].title, `${panel.title}, ${spoken(chart, at)}`,
            panel.y ? `${signed(v)} points` : `${percent(v)} %`, ...interval(l, u, unit), ...corrected(c)];
          svg.append(spot(row, px, y(100 * v), lines, large ? 4 : 2.8, bar));
        }
        const [, at, v] = mine[mine.length - 1];
        last.push([row, x(at) + shift, y(100 * v)]);
      });
      if (roomy) {
        apart(last.map((end) => end[2]), 14, box[1], box[3]).forEach((at, i) => {
          const [row, px, py] = last[i];
          svg.append(s("path", { "data-row": row, class: "lead", d: `M${px + 6} ${py}L${box[2] + 4} ${at}` }),
            s("text", { "data-row": row, x: box[2] + 8, y: at + 4 }, short(suite.rows[row].title, 32)));
        });
      }
      return points(svg);
    }

    const shared = ends(others.flatMap((panel) => panel.points), false);
    return [draw(first, Math.min(width, 840), 380, ends(first.points, true), true),
      others.length && others[0].y ? h("p", { class: "soft" }, capital(others[0].y)) : null,
      h("div", { class: "panels" }, others.map((panel) => draw(panel, Math.floor(width / across), 190, shared, false)))];
  }

  function differences(chart, width, hidden) {
    const kept = chart.panels.filter((panel) => !hidden.has(panel.points[0][0]));
    if (!kept.length) return null;
    const names = new Map(chart.ticks);
    const range = around([0, ...ends(kept.flatMap((panel) => panel.points), true)]);
    const across = Math.max(1, Math.floor((width - 130) / 230));
    const wide = Math.floor((width - 130) / across);
    const step = names.size > 16 ? 15 : 21;
    const last = names.size - 1;
    const panels = kept.map((panel, k) => {
      const labelled = k % across === 0;
      const left = labelled ? 138 : 8;
      const box = [left, 24, left + wide - 28, 24 + step * names.size];
      const x = scaled(...range, box[0], box[2]);
      const labels = { title: short(panel.title, wide / 6.6), name: `${chart.title}: ${panel.title}` };
      const svg = frame(left + wide - 8, box[3] + 24, box, x, null, worded(ticks(...range, 4)), [], labels);
      svg.append(s("line", { class: "zero", x1: x(0), x2: x(0), y1: box[1], y2: box[3] }));
      if (last) svg.append(s("line", { class: "grid", x1: box[0], x2: box[2], y1: box[3] - step, y2: box[3] - step }));
      if (labelled) {
        names.forEach((text, t) => svg.append(
          s("text", { class: "soft", x: left - 8, y: box[1] + step * (t + 0.5) + 4, "text-anchor": "end" }, short(text, 20))));
      }
      for (const [row, t, v, l, u, c] of panel.points) {
        const py = box[1] + step * (t + 0.5);
        const whole = last > 0 && t === last;
        const bar = known(l) && known(u) ? stroke(row, x(100 * l), py, x(100 * u), py, whole ? 2.6 : 1.6, 1) : null;
        const lines = [panel.title, `${names.get(t)}: ${signed(v)} points`, ...interval(l, u, "points"), ...corrected(c)];
        svg.append(spot(row, x(100 * v), py, lines, whole ? 5 : 4, bar, !(known(c) && c <= ALPHA)));
      }
      return points(svg);
    });
    return [h("div", { class: "panels" }, panels), h("p", { class: "soft" }, capital(chart.x))];
  }

  function reliability(chart, width, hidden) {
    const rows = suite.rows.map((_, i) => i).filter((i) => suite.bins[i].some(([count]) => count) && !hidden.has(i));
    if (!rows.length) return null;
    const across = Math.max(width < 420 ? 2 : 1, Math.floor(width / 205));
    const wide = Math.floor(width / across);
    const side = wide - 50;
    const block = suite.blocks.find((one) => one.columns.some((column) => column.title === "ECE"));
    const ece = block.columns.findIndex((column) => column.title === "ECE");
    const hundred = worded([0, 50, 100]);
    const panels = rows.map((row) => {
      const bins = suite.bins[row];
      const box = [32, 62, 32 + side, 62 + side];
      const [x, y] = [scaled(0, 100, box[0], box[2]), scaled(0, 100, box[3], box[1])];
      const title = suite.rows[row].title;
      const svg = frame(wide, box[3] + 24, box, x, y, hundred, hundred, { name: `${chart.title}: ${title}` });
      svg.append(s("text", { x: box[0], y: 14 }, short(title, wide / 6.8)));
      const most = Math.max(...bins.map(([count]) => count));
      const total = bins.reduce((sum, [count]) => sum + count, 0);
      const size = 100 / bins.length;
      bins.forEach(([count, sure, right], k) => {
        if (!count) return;
        const [from, far] = [x(k * size), x((k + 1) * size)];
        const bar = { x: from, width: far - from };
        const tall = (30 * count) / most;
        const gap = [y(100 * Math.max(sure, right)), Math.abs(y(100 * sure) - y(100 * right))];
        const lines = [title, `confidence ${fixed(k * size, 0)} to ${fixed((k + 1) * size, 0)} %: ${percent(count / total)} % of the answers`,
          `mean confidence ${percent(sure)} %`, `accuracy ${percent(right)} %`];
        svg.append(hint(s("g", { "data-row": row, role: "img", "aria-label": lines.join(". ") },
          s("rect", { class: "share", ...bar, y: 54 - tall, height: tall }),
          s("rect", { class: "bar", ...bar, y: y(100 * right), height: y(0) - y(100 * right) }),
          s("rect", { class: "gap", fill: "url(#hatch)", ...bar, y: gap[0], height: gap[1] }),
          s("line", { class: "zero", x1: from, x2: far, y1: y(100 * right), y2: y(100 * right), "stroke-width": 2 }),
          s("rect", { class: "hit", ...bar, y: 22, height: box[3] - 22 })), lines));
      });
      const [zero, one] = [`${x(0)} ${y(0)}`, `${x(100)} ${y(100)}`];
      svg.append(s("path", { class: "axis", "stroke-dasharray": "5 4", "pointer-events": "none", d: `M${zero}L${one}` }),
        s("text", { class: "name", "pointer-events": "none", x: box[0] + 6, y: box[1] + 16 }, `ECE ${block.entries[row][ece].t}`));
      return points(svg);
    });
    return [h("div", { class: "panels" }, panels), h("p", { class: "soft" }, `Across: ${chart.x}; up: ${chart.y}`)];
  }

  const DRAW = { cost, size, robustness, ranks, severity: curves, shots: curves, differences, reliability };

  function numbers(chart) {
    const box = h("details", {}, h("summary", {}, "The numbers"));
    box.addEventListener("toggle", () => {
      if (box.childElementCount > 1) return;
      const line = (panel) => ([row, x, v, l, u]) =>
        h("tr", {}, [suite.rows[row].title, panel.title, spoken(chart, x), known(v) ? percent(v, 2) : "",
          known(l) && known(u) ? `${percent(l, 2)} to ${percent(u, 2)}` : ""].map((text) => h("td", {}, text)));
      const heads = ["Row", "Panel", chart.x, capital(chart.y || "value"), "95 % interval"];
      box.append(h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${chart.title}, the numbers` },
        h("table", { class: "plain" }, h("thead", {}, h("tr", {}, heads.map((text) => h("th", { scope: "col" }, text)))),
          h("tbody", {}, chart.panels.flatMap((panel) => panel.points.map(line(panel)))))));
    });
    return box;
  }

  function gallery() {
    const hidden = new Set();
    const present = suite.charts.filter((chart) => !chart.absent);
    const places = present.map(() => h("div", {}));
    const draw = () => present.forEach((chart, k) => {
      const drawn = DRAW[chart.name](chart, Math.floor(places[k].clientWidth) || 640, hidden);
      const none = h("p", { class: "soft" }, "Every row of this figure is switched off.");
      places[k].replaceChildren(...[drawn || none].flat().filter(Boolean));
    });
    const swatch = (i) => s("svg", { width: 30, height: 14, "aria-hidden": "true" },
      s("line", { x1: 1, x2: 29, y1: 7, y2: 7, stroke: colour(i), "stroke-width": 1.8, "stroke-dasharray": dashes(i) }), shape(i, 15, 7, 4));
    const buttons = suite.rows.map((row, i) =>
      h("button", { type: "button", class: "chip", "aria-pressed": "true", "data-legend": i, click: (event) => {
        if (!hidden.delete(i)) hidden.add(i);
        event.currentTarget.setAttribute("aria-pressed", String(!hidden.has(i)));
        draw();
      } }, swatch(i), row.title));
    const every = (off) => h("button", { type: "button", class: "chip", click: () => {
      suite.rows.forEach((_, i) => (off ? hidden.add(i) : hidden.delete(i)));
      buttons.forEach((button) => button.setAttribute("aria-pressed", String(!off)));
      draw();
    } }, off ? "None" : "All");
    const figure = (chart, k) =>
      h("figure", { id: `chart-${chart.name}` }, h("h4", {}, chart.title),
        chart.y && chart.name !== "reliability" && h("p", { class: "soft" }, capital(chart.y)),
        places[k], h("figcaption", {}, chart.caption), chart.panels && numbers(chart));
    const charts = h("div", { class: "charts" }, present.map(figure));
    const hatch = s("svg", { width: 0, height: 0, "aria-hidden": "true" }, s("defs", {},
      s("pattern", { id: "hatch", width: 5, height: 5, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
        s("line", { x1: 0, x2: 0, y1: 0, y2: 5, stroke: "currentColor", "stroke-width": 1.2 }))));
    const absent = suite.charts.filter((chart) => chart.absent)
      .map((chart) => h("p", { class: "soft" }, `${chart.title}, not shown: ${chart.absent}.`));
    const section = h("section", { "aria-label": "Figures" }, h("h3", {}, "Figures"),
      h("p", { class: "hint" }, "A name switches its row on and off in every figure. Hover a point, or move with Tab and the arrow keys, for its numbers."),
      h("div", { class: "legend", role: "group", "aria-label": "Rows of the figures" }, buttons, every(false), every(true)),
      hatch, charts, absent);
    let lit = null;
    const light = (event) => {
      const node = event.type === "pointerleave" ? null : event.target.closest("[data-row], [data-legend]");
      const row = node ? node.dataset.row || node.dataset.legend : null;
      if (row === lit) return;
      lit = row;
      charts.classList.toggle("lit", row !== null && charts.querySelector(`[data-row="${row}"]`) !== null);
      for (const one of charts.querySelectorAll("[data-row]")) one.classList.toggle("on", one.dataset.row === row);
    };
    for (const kind of ["pointerover", "pointerleave"]) section.addEventListener(kind, light);
    figures = draw;
    return section;
  }

  // -- all pairs ------------------------------------------------------------------------------------------------------

  function matrix() {
    if (suite.rows.length < 2 || !suite.pairs.length) return null;
    const between = (i, k) => {
      if (i < k) return suite.pairs[i][k - i - 1];
      const { v, l, h: u, ...others } = suite.pairs[k][i - k - 1];
      return known(v) ? { ...others, v: -v, l: known(u) ? -u : null, h: known(l) ? -l : null } : others;
    };
    const largest = Math.max(0.001, ...suite.pairs.flat().map((entry) => Math.abs(entry.v || 0)));
    const pair = (i, k) => {
      if (i === k) return h("td", {});
      const [row, other, entry] = [suite.rows[i], suite.rows[k], between(i, k)];
      const text = known(entry.v) ? signed(entry.v) : "–";
      const told = [`${row.title} minus ${other.title}: ${text}${known(entry.v) ? " points" : ""}`, ...about(entry, { unit: "points" })];
      const opened = () => open(`${row.title} and ${other.title}`, told.map((line) => h("p", {}, line)));
      const box = h("td", { class: known(entry.c) && entry.c <= ALPHA && "sure" },
        hint(h("button", { type: "button", tabindex: "-1", click: opened }, text), told));
      if (entry.v) {
        const share = 0.06 + 0.5 * (Math.abs(entry.v) / largest);
        box.style.backgroundColor = entry.v > 0 ? `rgb(1 115 178 / ${share})` : `rgb(222 143 5 / ${share})`;
      }
      return box;
    };
    const table = h("table", { class: "pairs", role: "grid" },
      h("thead", {}, h("tr", {}, h("td", {}), suite.rows.map((row) => h("th", { scope: "col" }, h("span", {}, row.title))))),
      h("tbody", {}, suite.rows.map((row, i) =>
        h("tr", {}, h("th", { scope: "row" }, row.title), suite.rows.map((_, k) => pair(i, k))))));
    return h("section", { "aria-label": "All pairs" }, h("h3", {}, "All pairs"),
      h("p", { class: "soft" }, "Row minus column, in points, by the measure that ranks the leaderboard. Blue: the row is better; orange: the column. Bold: p ≤ 0.05 with Holm's correction over all pairs."),
      h("div", { class: "scroll", role: "region", "aria-label": "All pairs" }, grid(table)));
  }

  // -- the page -------------------------------------------------------------------------------------------------------

  function render() {
    show(null);
    const tables = h("div", { id: "tables" });
    const sorted = sorter(tables);
    tables.append(...suite.blocks.map((block, i) => board(block, i, sorted)));
    const count = suite.rows.reduce((sum, row) => sum + row.cells.length, 0);
    main.replaceChildren(...[
      h("h2", {}, suite.title),
      h("p", { class: "soft" }, `Suite ${suite.name}: ${suite.rows.length} rows from ${count} stored cells.`),
      tools(tables),
      tables,
      h("p", { class: "hint" }, "Hover a number for its interval and p, open it for the cells behind it. By keyboard: Tab to a table, arrow keys inside it, Enter to sort or open."),
      suite.footnotes.length && h("ol", { class: "notes soft" }, suite.footnotes.map((text) => h("li", {}, text))),
      matrix(),
      gallery(),
      h("section", { "aria-label": "How to read this" }, h("h3", {}, "How to read this"), suite.footer.map((text) => h("p", {}, text))),
    ].filter(Boolean));
    for (const button of nav.children) {
      if (button.dataset.name === suite.name) button.setAttribute("aria-current", "page");
      else button.removeAttribute("aria-current");
    }
    figures();
  }

  function choose(name) {
    const found = DATA.suites.find((one) => one.name === name);
    if (!found || found === suite) return;
    suite = found;
    render();
  }

  const named = () => {
    try { return decodeURIComponent(location.hash.slice(1)); } catch { return ""; }
  };
  nav.append(...DATA.suites.map((one) =>
    h("button", { type: "button", "data-name": one.name, click: () => { location.hash = encodeURIComponent(one.name); } }, one.name)));
  addEventListener("hashchange", () => choose(named()));

  const dark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme || (dark.matches ? "dark" : "light")) === "dark";
  const label = () => {
    theme.textContent = isDark() ? "Light" : "Dark";
    theme.setAttribute("aria-label", `Use ${isDark() ? "light" : "dark"} colours`);
  };
  theme.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    label();
  });
  dark.addEventListener("change", label);
  label();

  let wide = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === wide) return; // on a phone the height changes with every scroll
    wide = innerWidth;
    requestAnimationFrame(() => figures());
  });
  suite = DATA.suites.find((one) => one.name === named()) || suite;
  render();
})();
