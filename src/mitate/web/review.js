// The page of a review: where the reviewer is, what the keys do, what is shown of it.

import { Choice, element, figures, keys } from "./panels.js";
import { Saving } from "./saving.js";
import { Sheet } from "./sheet.js";

const $ = id => document.getElementById(id);
const WORDS = { k: "keep", d: "drop", r: "relabel" }, DONE = { k: "kept", d: "dropped", r: "relabelled" };
const CHUNKS = 120; // of a hundred images each, held in memory
const LONGEST_LOOK = 60_000; // milliseconds; longer ones were a break
const PACE = 60; // latest decisions that the time left is reckoned from

const set = await (await fetch("set")).json();
const words = (key, values = {}) => (set.words[key] ?? key).replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
const many = n => n.toLocaleString();
const mine = [...set.mine], filtered = [...set.filtered], chunks = new Map(), fails = new Map(), looks = [];
const filters = ["all", "todo", "k", "d", "r", ...(set.filtered.includes("d") ? ["filtered"] : []), "open"];
let list = [], cursor = 0, anchor = 0, single = false, filter = "all", only = "", open = [], latest = performance.now(), reviewed = 0;

// what is known of an image -----------------------------------------------------------------------------------------------

const item = number => chunks.get(Math.floor(number / set.items))?.items?.[number % set.items];
const here = () => list[cursor];
const letter = number => saving.letterOf(number) || mine[number];

function need(number) { // ask for an image's words, a hundred at a time
  const chunk = Math.floor(number / set.items);
  const known = chunks.get(chunk);
  if (known) { chunks.delete(chunk); chunks.set(chunk, known); return; }
  const wanted = { items: null };
  chunks.set(chunk, wanted);
  if (chunks.size > CHUNKS) chunks.delete(chunks.keys().next().value);
  fetch(`items/${chunk * set.items}`).then(answer => answer.ok ? answer.json() : Promise.reject()).then(items => {
    wanted.items = items;
    sheet.redress();
    if (single) tell();
  }).catch(() => chunks.delete(chunk));
}

const className = number => set.labels[number] < 0 ? words("unlabelled") : set.classes[set.labels[number]];

// decisions -----------------------------------------------------------------------------------------------------------------

const saving = new Saving({
  written(change, job) {
    change.numbers.forEach((number, k) => {
      mine[number] = change.letters[k];
      const known = item(number);
      if (known) known.mine = job.decision === "undo" ? null : { decision: job.decision, label: job.label ?? null, checks: (job.checks ?? []).map(c => set.checks[c]) };
      if (job.decision === "undo") { fails.delete(number); chunks.delete(Math.floor(number / set.items)); } // what was said before stands again
    });
    if (job.decision === "undo") {
      if (!change.numbers.length) say(words("nothing"));
      const back = list.indexOf(change.numbers[0]);
      if (back >= 0) go(back);
    }
    draw();
  },
  refused(why) { trouble(words("trouble.refused", { why })); draw(); },
  trouble(why, waiting) {
    if (waiting) trouble(words("trouble", { why: why ?? words("trouble.gone"), n: waiting }));
    else $("trouble").hidden = true;
  },
});

function decide(decision, label = null, numbers = chosen()) {
  if (!numbers.length) return;
  const checks = decision === "keep" ? [] : [...(fails.get(here()) ?? failed(here()))].sort();
  const asked = { numbers, decision, checks };
  if (label !== null) {
    asked.label = label;
    if (!set.classes.includes(label)) set.classes.push(label);
  }
  const now = performance.now();
  looks.push(...numbers.map((_, k) => k ? 0 : Math.min(LONGEST_LOOK, now - latest)));
  looks.splice(0, Math.max(0, looks.length - PACE));
  latest = now;
  reviewed += numbers.length;
  saving.add(asked);
  say(`${words(DONE[decision[0]])}${label ? `: ${label}` : ""}`);
  go(Math.min(list.length - 1, Math.max(cursor, anchor) + 1));
}

async function relabel() {
  const numbers = chosen();
  if (!numbers.length) return;
  const label = await choice.ask(set.classes, numbers.length);
  if (label !== null) decide("relabel", label, numbers);
}

const failed = number => new Set((item(number)?.mine?.checks ?? []).map(text => set.checks.indexOf(text)).filter(k => k >= 0));

function toggle(k) {
  if (k >= set.checks.length || !list.length) return;
  const now = new Set(fails.get(here()) ?? failed(here()));
  now.has(k) ? now.delete(k) : now.add(k);
  fails.set(here(), now);
  draw();
}

// where the reviewer is -----------------------------------------------------------------------------------------------------

function chosen() {
  if (!list.length) return [];
  const [a, b] = single ? [cursor, cursor] : [Math.min(anchor, cursor), Math.max(anchor, cursor)];
  return list.slice(a, Math.min(b + 1, a + 1000));
}

function go(position, extend = false) {
  if (!list.length) return draw();
  cursor = Math.max(0, Math.min(list.length - 1, position));
  if (!extend) anchor = cursor;
  if (single) show();
  else sheet.reveal(cursor);
  draw();
}

function next() { // the next one that is not decided, round the end
  for (let k = 1; k <= list.length; k++) {
    const position = (cursor + k) % list.length;
    if (letter(list[position]) === ".") return go(position);
  }
}

function choose(fresh) {
  filter = fresh;
  const passes = {
    all: () => true, todo: n => mine[n] === ".", filtered: n => filtered[n] === "d", open: n => open.includes(n),
    k: n => mine[n] === "k", d: n => mine[n] === "d", r: n => mine[n] === "r",
  }[filter];
  const keep = here();
  list = [];
  for (let n = 0; n < set.count; n++) if ((only === "" || set.labels[n] === +only) && passes(n)) list.push(n);
  cursor = anchor = Math.max(0, list.indexOf(keep));
  sheet.show(list);
  go(cursor);
}

function look(asSingle) {
  single = asSingle;
  $("sheet").hidden = single;
  $("single").hidden = !single;
  $("size").hidden = single;
  document.body.classList.toggle("one", single);
  anchor = cursor;
  if (!single) { sheet.lay(); $("sheet").focus({ preventScroll: true }); }
  go(cursor);
}

// what is shown -------------------------------------------------------------------------------------------------------------

function dress(tile, number, position) {
  need(number);
  const known = item(number), stands = letter(number), [a, b] = [Math.min(anchor, cursor), Math.max(anchor, cursor)];
  tile.classList.toggle("waiting", saving.letterOf(number) !== "");
  tile.classList.toggle("at", position === cursor);
  tile.classList.toggle("chosen", position >= a && position <= b && a !== b);
  tile.classList.toggle("out", stands === "." && filtered[number] === "d");
  tile.dataset.stands = stands === "." ? "" : stands;
  const label = stands === "r" && known?.mine?.label ? `${className(number)} → ${known.mine.label}` : className(number);
  tile.words.textContent = set.classes.length > 1 || stands === "r" ? label : known?.caption ?? label;  // one class for all says nothing
  tile.title = known ? [known.caption, known.file].filter(Boolean).join("\n") : "";
  tile.setAttribute("aria-selected", position >= a && position <= b);
  tile.setAttribute("aria-label", `${label}, ${words(`stands.${stands === "." ? "" : stands}`, { label: known?.mine?.label ?? "" })}`);
}

function show() { // the single picture
  const number = here(), picture = $("picture");
  need(number);
  if (picture.getAttribute("src") !== `image/${number}`) {
    $("unseen").hidden = true;
    picture.hidden = false;
    picture.setAttribute("src", `image/${number}`);
  }
  for (const ahead of [1, 2]) if (list[cursor + ahead] !== undefined) new Image().src = `image/${list[cursor + ahead]}`;
}

function fit() { // as large as the stage has room for; small pictures with sharp pixels
  const picture = $("picture"), { naturalWidth: w, naturalHeight: h } = picture, stage = $("stage");
  if (!w || !h) return;
  const scale = Math.min(stage.clientWidth / w, stage.clientHeight / h, Math.max(1, 640 / Math.max(w, h)));
  picture.style.width = `${Math.floor(w * scale)}px`;
  picture.style.height = `${Math.floor(h * scale)}px`;
  picture.classList.toggle("small", Math.max(w, h) <= 96);
}

function tell() { // the words beside the single picture
  const number = here(), known = item(number), stands = letter(number), label = known?.mine?.label ?? "";
  $("place").textContent = words("place", { n: many(cursor + 1), count: many(list.length) });
  $("label").textContent = className(number);
  $("stands").textContent = saving.letterOf(number) ? words("waiting") : words(`stands.${stands === "." ? "" : stands}`, { label });
  $("stands").dataset.stands = stands === "." ? "" : stands;
  $("caption").textContent = known?.caption ?? "";
  $("file").textContent = known?.file ?? "";
  $("picture").alt = [className(number), known?.caption].filter(Boolean).join(", ");
  $("voices").replaceChildren(...(known?.filters ?? []).map(voice => {
    const row = element("li", "", voice.decision);
    row.append(element("strong", words(`voice.${voice.decision}`, { by: voice.by, label: voice.label ?? "" })));
    const why = [voice.reason, voice.score === null ? "" : words("score", { score: +voice.score.toPrecision(3) })].filter(Boolean).join(" · ");
    if (why) row.append(element("span", why));
    return row;
  }));
  const marked = fails.get(number) ?? failed(number);
  $("checks").replaceChildren(...set.checks.map((text, k) => {
    const row = element("button", "", marked.has(k) ? "check on" : "check");
    row.type = "button";
    row.setAttribute("aria-pressed", marked.has(k));
    row.append(element("kbd", `${k + 1}`), element("span", text));
    row.addEventListener("click", () => toggle(k));
    return row;
  }));
}

function count() {
  const n = { k: 0, d: 0, r: 0 };
  let out = 0;
  for (let i = 0; i < set.count; i++) {
    const stands = letter(i);
    if (stands !== ".") n[stands]++;
    if (filtered[i] === "d") out++;
  }
  const done = n.k + n.d + n.r;
  for (const [which, name] of Object.entries(WORDS)) document.querySelector(`.bar .${name}`).style.flexGrow = n[which];
  document.querySelector(".bar").style.setProperty("--todo", set.count - done);
  $("counts").textContent = words("counts", { done: many(done), count: many(set.count), keep: many(n.k), drop: many(n.d), relabel: many(n.r) });
  const pace = looks.reduce((sum, x) => sum + x, 0) / looks.length;
  $("left").textContent = looks.length >= 5 && done < set.count ? words("left", { time: clock(pace * (set.count - done) / 1000) }) : "";
  const numbers = { all: set.count, todo: set.count - done, ...n, filtered: out, open: open.length };
  for (const chip of $("chips").children) {
    chip.querySelector("span").textContent = many(numbers[chip.dataset.filter]);
    chip.setAttribute("aria-pressed", chip.dataset.filter === filter);
    chip.hidden = chip.dataset.filter === "open" && !open.length && filter !== "open";
  }
}

const clock = seconds => seconds < 90 ? words("seconds", { n: Math.max(1, Math.round(seconds)) })
  : seconds < 5400 ? words("minutes", { n: Math.round(seconds / 60) })
  : words("hours", { h: Math.floor(seconds / 3600), m: Math.round(seconds % 3600 / 60) });

let drawn = 0;
function draw() { // once a frame
  if (drawn) return;
  drawn = requestAnimationFrame(() => {
    drawn = 0;
    const none = list.length === 0;
    count();
    $("empty").hidden = !none;
    $("empty").textContent = words(filter === "todo" ? "empty.todo" : "empty");
    $("single").hidden = !single || none;
    for (const id of ["keep", "drop", "relabel"]) $(id).disabled = none;
    $("to-sheet").setAttribute("aria-pressed", !single);
    $("to-single").setAttribute("aria-pressed", single);
    const some = none ? 0 : chosen().length;
    $("chosen").textContent = some > 1 ? words("chosen", { n: many(some) }) : "";
    if (single && !none) tell();
    if (!single) {
      sheet.redress();
      $("sheet").setAttribute("aria-activedescendant", `tile-${cursor}`);
    }
  });
}

function say(text) { $("said").textContent = text; }

function trouble(text) {
  $("trouble-text").textContent = text;
  $("trouble").hidden = false;
}

function panel(title, parts) {
  $("panel-title").textContent = title;
  $("panel-body").replaceChildren(...parts);
  if (!$("panel").open) $("panel").showModal();
}

const help = () => panel(words("help"), keys(words, set));

async function agreement() {
  panel(words("figures"), [element("p", words("loading"), "soft")]);
  try {
    const found = await (await fetch("figures")).json();
    open = found.open;
    panel(words("figures"), found.counts ? figures(words, found, set.audit) : [element("p", found.error ?? "")]);
    draw();
  } catch { panel(words("figures"), [element("p", words("trouble.gone"))]); }
}

// keys and clicks -----------------------------------------------------------------------------------------------------------

function press(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target.matches("select, input:not([type=range])")) return;
  const typed = event.key === "Process" || event.isComposing ? event.code.replace(/^(Key|Digit)/, "") : event.key; // a Japanese keyboard that composes
  const key = typed.length === 1 ? typed.normalize("NFKC").toLowerCase() : typed;
  const onButton = event.target.matches("button") && (key === "Enter" || key === " ");
  const row = single ? 1 : sheet.columns || 1, page = row * (single ? 10 : sheet.rows);
  const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -row, ArrowDown: row, PageUp: -page, PageDown: page, Home: -Infinity, End: Infinity };
  if (onButton) return;
  if (key in moves) {
    if (event.target.matches("input[type=range]")) return;
    const to = cursor + moves[key], stays = !single && (to < 0 || to >= list.length) && Math.abs(moves[key]) === row && row > 1;
    if (!stays) go(to, event.shiftKey && !single);
  } else if (event.repeat && key !== "u") { return event.preventDefault(); }
  else if (key === "k") decide("keep");
  else if (key === "d") decide("drop");
  else if (key === "r") relabel();
  else if (key === "u") saving.add({ numbers: [], decision: "undo" });
  else if (key === "n") next();
  else if (key === "Enter") { if (list.length) look(!single); }
  else if (key === "Escape") { if (single) look(false); else { anchor = cursor; draw(); } }
  else if (key === "?" || key === "h") help();
  else if (/^[1-9]$/.test(key)) toggle(+key - 1);
  else return;
  event.preventDefault();
}

function act(id, key, work) {
  $(id).append(element("span", words(id)), element("kbd", key));
  $(id).addEventListener("click", work);
}

const choice = new Choice($("relabelling"), words);
const sheet = new Sheet($("sheet"), $("field"), {
  dress,
  pick: (position, event) => { position === cursor && !event.shiftKey && event.pointerType === "touch" ? (go(position), look(true)) : go(position, event.shiftKey); },
  enter: position => { go(position); look(true); },
});

document.title = words("title", { name: set.name });
$("eyebrow").textContent = words(set.audit ? "eyebrow.audit" : "eyebrow", { by: set.by });
$("name").textContent = set.name;
$("to-sheet").textContent = words("sheet");
$("to-single").textContent = words("single");
$("figures").textContent = words("figures");
$("retry").textContent = words("retry");
$("panel-close").textContent = words("close");
$("checks-title").textContent = words("checks");
$("checklist").hidden = !set.checks.length;
$("size").setAttribute("aria-label", words("size"));
$("size").title = words("size");
$("help").setAttribute("aria-label", words("help"));
$("help").title = words("help");
$("back").setAttribute("aria-label", words("back"));
$("on").setAttribute("aria-label", words("on"));
$("sheet").setAttribute("aria-label", set.name);

for (const name of filters) {
  const chip = element("button", "", "chip");
  chip.dataset.filter = name;
  chip.append(words(DONE[name] ?? name), element("span"));
  chip.addEventListener("click", () => choose(name));
  $("chips").append(chip);
}
const classes = [...new Set(set.labels)].sort((a, b) => a - b);
$("class").setAttribute("aria-label", words("classes"));
$("class").hidden = classes.length < 2;
$("class").append(new Option(words("classes"), ""), ...classes.map(k => new Option(k < 0 ? words("unlabelled") : set.classes[k], k)));
$("class").addEventListener("change", () => { only = $("class").value; $("class").blur(); choose(filter); });
$("size").addEventListener("input", () => { sheet.size = +$("size").value; sheet.lay(); sheet.reveal(cursor); });
if (matchMedia("(max-width: 640px)").matches) $("size").value = sheet.size = 100;

// A button that was clicked gives the keys back to the page, or Enter would click it again; one that was reached by Tab keeps them.
addEventListener("click", event => { if (event.detail) event.target.closest?.("button")?.blur(); }, { capture: true });
act("keep", "K", () => decide("keep"));
act("drop", "D", () => decide("drop"));
act("relabel", "R", () => relabel());
act("undo", "U", () => saving.add({ numbers: [], decision: "undo" }));
$("to-sheet").addEventListener("click", () => look(false));
$("to-single").addEventListener("click", () => { if (list.length) look(true); });
$("figures").addEventListener("click", agreement);
$("help").addEventListener("click", help);
$("retry").addEventListener("click", () => { if (saving.jobs.length) saving.send(); else $("trouble").hidden = true; });
$("panel-close").addEventListener("click", () => $("panel").close());
$("panel").addEventListener("click", event => { if (event.target === $("panel")) $("panel").close(); });
$("back").addEventListener("click", () => go(cursor - 1));
$("on").addEventListener("click", () => go(cursor + 1));
$("picture").addEventListener("load", fit);
$("picture").addEventListener("error", async () => {
  const number = here();
  $("picture").hidden = true;
  const told = await fetch(`image/${number}`).then(answer => answer.json()).catch(() => ({}));
  if (number !== here()) return;
  $("unseen").textContent = words("unseen", { why: told.error ?? words("trouble.gone") });
  $("unseen").hidden = false;
});
new ResizeObserver(fit).observe($("stage"));
addEventListener("keydown", press);

choose("all");
const first = list.findIndex(n => mine[n] === ".");
if (first > 0 && mine.some(stands => stands !== ".")) go(first); // where the last session ended
$("sheet").focus({ preventScroll: true });
document.body.dataset.ready = "yes";
