"use strict";
// All text is put in as text, never as HTML: what a sentence says is inert.
const told = JSON.parse(document.getElementById("data").textContent);
const $ = (selector, within = document) => within.querySelector(selector);
const number = (value, digits = 0) =>
  value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const share = (weight) => (weight >= 0.005 ? weight.toFixed(2) : "");

/** An element with attributes and children; a child that is a string becomes text. */
function make(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}
function shape(name, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}
function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}
/** A sentence or word in one of the two languages, whatever its direction. */
const written = (name, side, attributes, ...children) =>
  make(name, { lang: told.languages[side], dir: "auto", ...attributes }, ...children);

// ---------------------------------------------------------------------------------------------------- scores

function showScores() {
  const [[first, scores]] = Object.entries(told.sets);
  const { outputs } = told;
  $("#title").textContent = told.run;
  $("#about").textContent =
    `${told.languages.source} → ${told.languages.target}, checkpoint ${told.checkpoint}, ` +
    `${first} set of ${number(scores.sentences)} sentences`;
  const part = (count) => `${number((100 * count) / Math.max(1, outputs.sentences), 1)} %`;
  const tiles = [
    ...["bleu", "chrf", "ter"].map((key) => [number(scores[key].score, 1), `${names[key]} ${plusMinus(scores, key)}`]),
    [number(outputs.ratio, 2), "length, of the reference’s"],
    [part(outputs.repeated), "repeat themselves", outputs.repeated],
    [part(outputs.empty), "are empty", outputs.empty],
  ];
  $("#scores .tiles").append(
    ...tiles.map(([value, label, odd]) =>
      make("div", { class: odd ? "tile odd" : "tile" }, make("b", {}, value), make("span", {}, label))),
  );
  const rows = Object.entries(told.sets).flatMap(([set, found]) =>
    Object.keys(names).map((key) => make("tr", {},
      make("th", {}, `${names[key]} (${set})`),
      make("td", { class: "score" }, `${number(found[key].score, 2)} ${plusMinus(found, key)}`),
      make("td", { class: "signature" }, found[key].signature))));
  $("#scores .table").append(make("table", {}, make("tbody", {}, ...rows)));
  $("#scores").append(note("± is half of the 95 % confidence interval, by bootstrap over the sentences. A translation repeats " +
    "itself when it has up to eight words three times in a row, or one five times, and the reference has not."));
}
const names = { bleu: "BLEU", chrf: "chrF", ter: "TER" };
const plusMinus = (scores, key) => (scores.confidence[key] ? `± ${number(scores.confidence[key][1], 1)}` : "");
const note = (text) => make("p", { class: "note" }, text);

// ---------------------------------------------------------------------------------------------------- charts

/** About so many round numbers that span low to high. */
function ticks(low, high, count = 5) {
  const rough = (high - low || 1) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const from = Math.floor(low / step + 1e-9), to = Math.ceil(high / step - 1e-9);
  return Array.from({ length: Math.max(1, to - from) + 1 }, (_, n) => +((from + n) * step).toPrecision(12));
}

/** A figure that is drawn anew when its width changes. */
function figure(parent, legend, draw) {
  const place = make("div");
  parent.append(make("figure", {}, legend, place));
  let width = 0;
  new ResizeObserver(() => {
    const now = Math.round(place.clientWidth);
    if (now && now !== width) place.replaceChildren(draw((width = now)));
  }).observe(place);
}
const edge = { left: 44, right: 18, top: 10, bottom: 24 };
const key = (colour, label) => make("span", { class: colour }, make("i"), label, " ", make("b"));

/** The axes of a chart, and the functions from values to places. */
function axes(width, height, vertical) {
  const low = vertical[0], high = vertical.at(-1);
  const y = (value) => height - edge.bottom - ((value - low) / (high - low)) * (height - edge.top - edge.bottom);
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  for (const value of vertical) {
    svg.append(
      shape("line", { class: "grid", x1: edge.left, x2: width - edge.right, y1: y(value), y2: y(value) }),
      shape("text", { x: edge.left - 8, y: y(value) + 4, "text-anchor": "end" }, String(value)));
  }
  return [svg, y];
}

/** Curves over steps: [{label, colour, thin, digits, points: [[step, value], …]}, …]; the legend tells the values. */
function lineChart(parent, title, curves) {
  const legend = make("p", { class: "legend" }, ...curves.map(({ colour, label }) => key(colour, label)), make("span"));
  const tell = (step) => {
    const at = curves.map(({ points }) => nearest(points, step));
    curves.forEach(({ digits }, n) => ($("b", legend.children[n]).textContent = number(at[n][1], digits)));
    legend.lastChild.textContent = `step ${number(step)}`;
    return at;
  };
  const all = curves.flatMap(({ points }) => points);
  const steps = all.map(([step]) => step), values = all.map(([, value]) => value);
  const last = Math.max(...steps), first = Math.min(0, ...steps);
  tell(last);
  figure(parent, legend, (width) => {
    const height = 240;
    const [svg, y] = axes(width, height, ticks(Math.min(0, ...values), Math.max(...values)));
    const across = ticks(first, last, width / 110).filter((step) => step <= last);
    const x = (step) => edge.left + ((step - first) / (last - first || 1)) * (width - edge.left - edge.right);
    svg.setAttribute("aria-label", title);
    svg.append(...across.map((step) =>
      shape("text", { x: x(step), y: height - 6, "text-anchor": step ? "middle" : "start" }, number(step))));
    for (const { colour, thin, points } of curves) {
      const path = points.map(([step, value]) => `${x(step).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
      svg.append(shape("polyline", { class: `curve ${colour}${thin ? " thin" : ""}`, points: path }));
      if (points.length < 40) {
        svg.append(...points.map(([step, value]) =>
          shape("circle", { class: `dot ${colour}`, cx: x(step), cy: y(value), r: 2.5 })));
      }
    }
    const cross = shape("g");
    svg.append(cross);
    const show = ({ clientX }) => {
      const box = svg.getBoundingClientRect();
      const wanted = first + ((((clientX - box.left) / box.width) * width - edge.left) /
        (width - edge.left - edge.right)) * (last - first);
      const step = nearest(all, wanted)[0];
      cross.replaceChildren(
        shape("line", { class: "cross", x1: x(step), x2: x(step), y1: edge.top, y2: height - edge.bottom }),
        ...tell(step).map(([at, value], n) =>
          shape("circle", { class: `dot ${curves[n].colour}`, cx: x(at), cy: y(value), r: 4 })));
    };
    svg.addEventListener("pointermove", show);
    svg.addEventListener("pointerdown", show);
    svg.addEventListener("pointerleave", () => { cross.replaceChildren(); tell(last); });
    return svg;
  });
}
const nearest = (points, step) =>
  points.reduce((best, point) => (Math.abs(point[0] - step) < Math.abs(best[0] - step) ? point : best));

function showCurves() {
  const section = $("#curves");
  const curve = (rows, value) => rows.map((row) => [row.step, row[value]]);
  const { train, valid } = told.curves;
  const losses = [
    { label: "training loss", colour: "blue", digits: 3, thin: true, points: curve(train, "loss") },
    { label: "training nll", colour: "green", digits: 3, thin: true, points: curve(train, "nll") },
    { label: "validation nll", colour: "orange", digits: 3, points: curve(valid, "nll") },
  ].filter(({ points }) => points.length);
  const charts = make("div", { class: "charts" });
  section.append(charts);
  if (losses.length) lineChart(charts, "Loss and negative log-likelihood by step", losses);
  if (valid.length) {
    const bleu = { label: "validation BLEU", colour: "orange", digits: 2, points: curve(valid, "bleu") };
    lineChart(charts, "BLEU of greedy translations by step", [bleu]);
  }
  section.append(note(losses.length
    ? "Nats a token; the loss has label smoothing, the negative log-likelihood (nll) has not. BLEU is of greedy " +
      "translations of the validation set."
    : "The run has no metrics file with values to draw."));
}

/** BLEU and chrF of each band, side by side. */
function showBands(id, unit, label, explanation) {
  const found = told.bands[id], section = $(`#${id}`);
  const legend = make("p", { class: "legend" }, key("blue", "BLEU"), key("orange", "chrF"), make("em", {}, unit));
  figure(section, legend, (width) => {
    const height = 250, bottom = 18;
    const [svg, y] = axes(width, height - bottom, [0, 20, 40, 60, 80, 100]);
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("aria-label", section.firstElementChild.textContent);
    const room = (width - edge.left - edge.right) / found.length;
    const thick = Math.min(46, room * 0.36);
    found.forEach((band, n) => {
      const middle = edge.left + room * (n + 0.5);
      [["bleu", "blue", -1], ["chrf", "orange", 0]].forEach(([score, colour, place]) => {
        const left = middle + place * thick, top = y(Math.min(100, band[score]));
        svg.append(
          shape("rect", { class: `bar ${colour}`, x: left + 1, y: top, width: thick - 2, height: y(0) - top, rx: 2 },
            shape("title", {}, `${names[score]} ${number(band[score], 2)}, ${number(band.sentences)} sentences`)),
          shape("text", { x: left + thick / 2, y: top - 4, "text-anchor": "middle" },
            number(band[score], thick > 30 ? 1 : 0)));
      });
      svg.append(
        shape("text", { x: middle, y: height - bottom - 6, "text-anchor": "middle" }, label(band)),
        shape("text", { x: middle, y: height - 6, "text-anchor": "middle" }, `n = ${number(band.sentences)}`));
    });
    return svg;
  });
  section.append(note(explanation));
}
const span = ({ low, high }) => (low === high ? number(low) : `${number(low)}–${number(high)}`);
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 2 });
const times = ({ low, high }) =>
  high === 0 ? "never" : low === high ? short.format(low) : `${short.format(low)}–${short.format(high)}`;

// ------------------------------------------------------------------------------------------------- sentences

const tools = $(".tools");
const PAGE = 25; // sentences that are added at once
let matching = [], listed = 0;

function showSentences() {
  const { sentences } = told, mapped = sentences.filter((sentence) => sentence.map);
  const groups = { worst: "the worst", best: "the best", "": "all", repeated: "repeating", empty: "empty" };
  for (const [group, label] of Object.entries(groups)) {
    const count = group ? sentences.filter(({ flags }) => flags.includes(group)).length : sentences.length;
    if (count) tools.group.append(make("option", { value: group }, `${label} (${number(count)})`));
  }
  const { layers = 0, heads = 0 } = mapped[0]?.map ?? {};
  for (const [select, count] of [[tools.layer, layers], [tools.head, heads]]) {
    select.append(make("option", { value: "" }, "average"));
    for (let n = 0; n < count; n++) select.append(make("option", { value: n }, String(n + 1)));
  }
  for (const label of tools.querySelectorAll(".attention")) label.hidden = !mapped.length;
  const kept = `${number(sentences.length)} of ${number(told.outputs.sentences)} sentences are on this page, ` +
    `with chrF of each; ${number(mapped.length)} of them with attention`;
  const why = told.no_maps ? ` (${told.no_maps}).`
    : mapped.length < sentences.length ? ": the worst and the best first, then others while there is room." : ".";
  const shades = mapped.length ? " Shades go up to the largest weight of what is shown; the end of the source is left out." : "";
  $("#sentences .note").textContent = kept + why + shades;
  tools.addEventListener("submit", (event) => event.preventDefault());
  tools.group.addEventListener("change", list);
  tools.search.addEventListener("input", list);
  for (const select of [tools.layer, tools.head]) {
    select.addEventListener("change", () => document.dispatchEvent(new Event("attention")));
  }
  $("#sentences .more").addEventListener("click", more);
  list();
  $("#sentences article header button")?.click();
}

/** The sentences that are asked for, from the first. */
function list() {
  const group = tools.group.value, text = tools.search.value.toLowerCase();
  const has = ({ source, translation, references }) =>
    [source, translation, ...references].some((side) => side.toLowerCase().includes(text));
  matching = told.sentences.filter((sentence) => (!group || sentence.flags.includes(group)) && has(sentence));
  if (group !== "best") matching.sort((one, other) => one.chrf - other.chrf);
  listed = 0;
  $("#sentences .list").replaceChildren();
  more();
}
function more() {
  $("#sentences .list").append(...matching.slice(listed, listed + PAGE).map(card));
  listed = Math.min(matching.length, listed + PAGE);
  $("#sentences .more").hidden = listed === matching.length;
}

function card(sentence) {
  const { flags, rarest, frequency, length, line } = sentence;
  const header = make("header", {}, make("b", {}, `chrF ${number(sentence.chrf, 1)}`),
    ...flags.map((flag) => make("span", { class: `flag ${flag}` }, flag)), make("span", {}, `line ${number(line)}`),
    make("span", {}, `${number(length)} ${told.units.source}`));
  if (rarest) header.append(make("span", {}, "rarest: ", written("bdi", "source", {}, rarest), ` (${short.format(frequency)}×)`));
  const article = make("article", {}, header, make("dl", {},
    make("dt", {}, "source"), written("dd", "source", {}, sentence.source),
    make("dt", {}, "translation"), sentence.translation.trim()
      ? written("dd", "target", { class: "translation" }, sentence.translation) : make("dd", { class: "nothing" }, "(empty)"),
    ...sentence.references.flatMap((text) =>
      [make("dt", {}, "reference"), written("dd", "target", { class: "reference" }, text)])));
  if (sentence.map) {
    const button = make("button", { type: "button", "aria-expanded": "false" }, "Attention");
    header.append(button);
    button.addEventListener("click", async () => {
      const open = button.getAttribute("aria-expanded") === "true";
      button.setAttribute("aria-expanded", String(!open));
      if (open) $(".map", article).remove();
      else article.append(attentionMap(sentence.map, await weights(sentence.map)));
    });
  }
  return article;
}

// ------------------------------------------------------------------------------------------------- attention

/** The weights [L, H, T, S] of a map, a byte each. */
async function weights(map) {
  const deflated = Uint8Array.from(atob(map.weights), (character) => character.charCodeAt(0));
  const stream = new Blob([deflated]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** The weights [T][S] of a layer and head; their mean over what is not chosen. */
function chosenWeights({ layers, heads, source, target }, bytes) {
  const all = (select, count) => (select.value === "" ? [...Array(count).keys()] : [+select.value]);
  const maps = all(tools.layer, layers).flatMap((layer) => all(tools.head, heads).map((head) => layer * heads + head));
  const size = source.length * target.length;
  return target.map((_, row) => source.map((_, column) =>
    maps.reduce((sum, map) => sum + bytes[map * size + row * source.length + column], 0) / (255 * maps.length)));
}

/** The words of both sides, and the matrix; a word that is pointed at or reached by keyboard tells its weights. */
function attentionMap(map, bytes) {
  const view = make("div", { class: "map" }), readout = make("p", { class: "readout", "aria-live": "polite" });
  const chips = Object.fromEntries(["source", "target"].map((side) => [side, map[side].map((word, n) =>
    make("span", { class: "word", tabindex: 0, "data-side": side, "data-number": n }, word))]));
  const lines = Object.fromEntries(Object.entries(chips).map(([side, words]) =>
    [side, written("div", side, { class: "words" }, ...words)]));
  const place = make("div", { class: "matrix" });
  view.append(lines.source, lines.target, readout, place);
  let rows, matrix;

  /** Shade what the word attends to, or what attends to it. */
  function tell(side, n) {
    const other = side === "source" ? "target" : "source";
    const seen = side === "target" ? rows[n] : rows.map((row) => row[n]);
    const most = Math.max(...seen, 1e-9);
    forget();
    chips[side][n].classList.add("chosen");
    lines[other].classList.add("told");
    chips[other].forEach((chip, m) => {
      chip.style.setProperty("--weight", seen[m] / most);
      chip.dataset.weight = share(seen[m]);
    });
    const first = seen.map((weight, m) => [weight, m]).sort((one, two) => two[0] - one[0]).slice(0, 4)
      .filter(([weight]) => share(weight));
    readout.replaceChildren(make("b", {}, make("bdi", {}, map[side][n])),
      side === "target" ? " attends to " : " is attended to by ",
      ...first.flatMap(([weight, m], k) => [k ? " · " : "", make("bdi", {}, map[other][m]), ` ${share(weight)}`]));
    if (!first.length) readout.append(side === "target" ? "the end of the source" : "no word");
    matrix.frame(side, n);
  }
  function forget() {
    for (const line of Object.values(lines)) line.classList.remove("told");
    for (const chip of [...chips.source, ...chips.target]) {
      chip.classList.remove("chosen");
      chip.style.removeProperty("--weight");
      delete chip.dataset.weight;
    }
    readout.replaceChildren("Point at a word of either side to see what it attends to.");
    matrix.frame();
  }
  const point = ({ target }) => {
    const { side, number: n } = target.closest?.("[data-side]")?.dataset ?? {};
    if (side) tell(side, +n);
  };
  const draw = () => {
    if (!view.isConnected && matrix) return document.removeEventListener("attention", draw);
    rows = chosenWeights(map, bytes);
    matrix = drawMatrix(map, rows, tell);
    place.replaceChildren(matrix.svg);
    forget();
  };
  for (const kind of ["pointerover", "focusin", "pointerdown"]) view.addEventListener(kind, point);
  view.addEventListener("pointerleave", forget);
  document.addEventListener("attention", draw);
  draw();
  return view;
}

/** Rows are target words, columns source words; shades go up to the largest weight. */
function drawMatrix({ source, target }, rows, tell) {
  const cut = (word) => (word.length > 16 ? `${word.slice(0, 15)}…` : word);
  const widest = (words) => Math.min(16, Math.max(...words.map((word) => word.length)));
  const cell = source.length > 60 ? 11 : source.length > 30 ? 16 : 22;
  const left = 14 + 8 * widest(target), top = 14 + 6.5 * widest(source);
  const width = left + cell * source.length, height = top + cell * target.length;
  const size = { width: width + 40, height: height + 4, viewBox: `0 0 ${width + 40} ${height + 4}` };
  const svg = shape("svg", { ...size, role: "img", "aria-label": "attention, target words by source words" });
  const most = rows.reduce((top, row) => Math.max(top, ...row), 1e-9);
  svg.append(shape("rect", { class: "ground", x: left, y: top, width: width - left, height: height - top }));
  rows.forEach((row, t) => row.forEach((weight, s) => {
    if (weight / most > 0.01) {
      const box = { x: left + s * cell, y: top + t * cell, width: cell - 1, height: cell - 1 };
      svg.append(shape("rect", { class: "cell", ...box, "fill-opacity": (weight / most).toFixed(3) }));
    }
  }));
  const labels = {
    source: source.map((word, s) => shape("text", {
      transform: `translate(${left + (s + 0.65) * cell} ${top - 6}) rotate(-52)`, lang: told.languages.source,
      "data-side": "source", "data-number": s }, cut(word))),
    target: target.map((word, t) => shape("text", {
      x: left - 7, y: top + (t + 0.5) * cell + 4, "text-anchor": "end", lang: told.languages.target,
      "data-side": "target", "data-number": t }, cut(word))),
  };
  const frame = shape("rect", { class: "frame", visibility: "hidden" });
  svg.append(...labels.source, ...labels.target, frame);
  svg.addEventListener("pointermove", ({ clientX, clientY }) => {
    const box = svg.getBoundingClientRect(), scale = size.width / box.width;
    const s = Math.floor(((clientX - box.left) * scale - left) / cell);
    const t = Math.floor(((clientY - box.top) * scale - top) / cell);
    if (s >= 0 && t >= 0 && s < source.length && t < target.length) tell("target", t);
  });
  return {
    svg,
    frame(side, n) {
      for (const label of [...labels.source, ...labels.target]) label.classList.remove("chosen");
      frame.setAttribute("visibility", side ? "visible" : "hidden");
      if (!side) return;
      labels[side][n].classList.add("chosen");
      const row = { x: left, y: top + n * cell, width: width - left, height: cell };
      const column = { x: left + n * cell, y: top, width: cell, height: height - top };
      for (const [name, value] of Object.entries(side === "target" ? row : column)) frame.setAttribute(name, value);
    },
  };
}

// ------------------------------------------------------------------------------------------------ provenance

function showProvenance() {
  for (const [topic, rows] of Object.entries(told.provenance)) {
    const cells = rows.map(([label, value]) => make("tr", {}, make("th", {}, label),
      make("td", label.startsWith("SHA-256") || label === "command" ? { class: "digest" } : {}, value)));
    $("#provenance").append(make("h3", {}, topic), make("table", {}, make("tbody", {}, ...cells)));
  }
  $("#provenance").append(make("details", {}, make("summary", {}, "Configuration (YAML)"), make("pre", {}, told.config)));
}

showScores();
showCurves();
showBands("length", `by ${told.units.source} of the source`, span,
  "Bands of about equally many sentences. n is their number; of few sentences a score means little.");
const { pairs, of } = told.counted;
showBands("frequency", `by how often the training text has the source’s rarest ${told.units.source.slice(0, -1)}`, times,
  pairs < of ? `Counted in ${number(pairs)} of ${number(of)} training pairs, at equal distances, and scaled.`
    : `Counted in the source side of all ${number(of)} training pairs, without regard to case.`);
showSentences();
showProvenance();
