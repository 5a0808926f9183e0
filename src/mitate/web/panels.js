// What opens above the page: the keys, the figures, the choice of a class. Text of others goes in as text, never as HTML.

export const element = (kind, text = "", className = "") => {
  const made = document.createElement(kind);
  made.textContent = text;
  if (className) made.className = className;
  return made;
};

export const share = x => `${(100 * x).toFixed(x > 0 && x < 0.1 ? 1 : 0)} %`;

export function keys(words, { checks, audit }) {
  const rows = [
    [["K"], "keep"], [["D"], "drop"], [["R"], "relabel"], [["U"], "undo"], [["←", "→", "↑", "↓"], "arrows"], [["Shift", "→"], "shift"], [["Enter"], "enter"],
    [["N"], "next"], ...(checks.length ? [[["1", "…", `${checks.length}`], "digits"]] : []), [["Home", "End"], "ends"], [["?"], "help"],
  ];
  const list = element("dl", "", "keys");
  for (const [caps, what] of rows) {
    const term = element("dt");
    for (const cap of caps) term.append(cap === "…" ? "…" : element("kbd", cap));
    list.append(term, element("dd", words(`keys.${what}`)));
  }
  const notes = [words("help.saved"), words(audit ? "help.audit" : "help.blind")].map(text => element("p", text, "soft"));
  return [list, ...notes];
}

export function figures(words, found, audit) {
  const parts = [], ends = ({ value, low, high, n }, shown) => ({ share: shown(value), value: shown(value), low: shown(low), high: shown(high), n });
  const people = Object.entries(found.counts);
  if (people.length) {
    const table = element("table"), head = element("tr");
    for (const word of ["person", "kept", "dropped", "relabelled"]) head.append(element("th", words(word)));
    table.append(head);
    for (const [name, n] of people) {
      const row = element("tr");
      row.append(element("td", name), ...["keep", "drop", "relabel"].map(k => element("td", n[k].toLocaleString(), "number")));
      table.append(row);
    }
    parts.push(element("h3", words("people")), table);
  }
  parts.push(element("h3", words("agreement")));
  if (!found.pairs.length) parts.push(element("p", words("alone"), "soft"));
  for (const pair of found.pairs) {
    const told = element("p");
    told.append(element("strong", `${pair.one} · ${pair.other}`), element("br"), words("same", ends(pair.same, share)), element("br"));
    told.append(pair.kappa ? words("kappa", ends(pair.kappa, x => x.toFixed(2))) : words("kappa.none"));
    parts.push(told);
  }
  parts.push(element("h3", words("audit")));
  const { dropped, kept, overruled } = found.audit;
  if (audit) parts.push(element("p", words("audit.hidden"), "soft"));
  else if (!dropped && !kept) parts.push(element("p", words("audit.none"), "soft"));
  else {
    if (dropped) parts.push(element("p", words("audit.dropped", ends(dropped, share))));
    for (const [by, found] of Object.entries(overruled)) parts.push(element("p", words("audit.filter", { by, ...ends(found, share) }), "inset"));
    if (kept) parts.push(element("p", words("audit.kept", ends(kept, share))));
  }
  return parts;
}

// A dialog that gives a class: by its key, by typing, by a click. Resolves to a label, or null.
export class Choice {
  constructor(dialog, words) {
    Object.assign(this, { dialog, words });
    this.input = dialog.querySelector("input");
    this.offers = dialog.querySelector(".offers");
    this.input.placeholder = words("relabelling.type");
    this.input.addEventListener("input", () => this.draw());
    dialog.addEventListener("keydown", event => this.key(event));
    dialog.addEventListener("click", event => { if (event.target === dialog) dialog.close(); });
    dialog.addEventListener("close", () => { this.done?.(null); this.done = null; });
    dialog.querySelector("form").addEventListener("submit", event => event.preventDefault());
  }

  ask(classes, many) {
    const digits = classes.filter(c => /^[0-9]$/.test(c)); // classes that are digits are their own keys
    Object.assign(this, { classes, at: 0 });
    this.keyOf = new Map(digits.length ? digits.map(c => [c, c]) : classes.slice(0, 9).map((c, k) => [c, `${k + 1}`]));
    this.input.value = "";
    this.dialog.querySelector("h2").textContent = many > 1 ? this.words("relabelling.many", { n: many }) : this.words("relabelling");
    this.draw();
    this.dialog.showModal();
    this.input.focus();
    return new Promise(done => { this.done = done; });
  }

  draw() {
    const typed = this.input.value.trim(), found = this.classes.filter(c => c.toLowerCase().includes(typed.toLowerCase())).slice(0, 60);
    this.found = typed && !this.classes.includes(typed) ? [...found, typed] : found;
    this.at = Math.min(this.at, Math.max(0, this.found.length - 1));
    this.offers.replaceChildren(...this.found.map((label, k) => {
      const fresh = !this.classes.includes(label), button = element("button", fresh ? this.words("relabelling.new", { label }) : label, k === this.at ? "offer at" : "offer");
      button.type = "button";
      button.addEventListener("click", () => this.give(label));
      if (!typed && this.keyOf.has(label)) button.prepend(element("kbd", this.keyOf.get(label)));
      return button;
    }));
    this.offers.querySelector(".at")?.scrollIntoView({ block: "nearest" });
  }

  give(label) {
    const done = this.done;
    this.done = null;
    this.dialog.close();
    done?.(label); // now, not when the dialog tells that it closed: the next key may come first
  }

  key(event) {
    if (event.isComposing || event.keyCode === 229) return; // still being written, in Japanese
    event.stopPropagation();
    const move = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (event.key === "Enter") {
      event.preventDefault();
      const typed = this.input.value.trim();
      if (this.found.length) this.give(this.classes.includes(typed) ? typed : this.found[this.at]);
    } else if (move && (event.key === "ArrowDown" || event.key === "ArrowUp" || !this.input.value)) {
      event.preventDefault();
      this.at = Math.max(0, Math.min(this.found.length - 1, this.at + move));
      this.draw();
    } else if (!this.input.value && /^[0-9]$/.test(event.key)) {
      const label = [...this.keyOf].find(([, key]) => key === event.key)?.[0];
      if (label !== undefined) { event.preventDefault(); this.give(label); }
    }
  }
}
