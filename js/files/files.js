// The files of a root filesystem: a tree that is as long as it likes and draws only the rows that are seen. Python lists
// directories page by page when they are opened, searches, compares and reads files; here is what a person does with it.

import { el } from "./element.js";
import css from "./files.css";
import { Look } from "./look.js";
import { humanSize, nested, node, root, visible } from "./tree.js";

/** @typedef {import("../../dockermagic/notebook/static/card.js").Channel} Channel */
/** @typedef {import("./tree.js").Node} Node */
/** @typedef {import("./tree.js").Row} Row */
/** A part of a directory. @typedef {{total: number, offset: number, rows: Row[]}} Listed */
/** @typedef {import("./tree.js").Seen} Seen */

const HEIGHT = 24;
const PAGE = 400;
const SIGNS = /** @type {Record<string, string>} */ ({ added: "+", modified: "~", removed: "−" });
const TONES = /** @type {Record<string, string>} */ ({ added: "ok", modified: "warn", removed: "bad" });
const STATES = ["added", "modified", "removed", "unchanged"];

let count = 0;

const pressed = (/** @type {HTMLElement} */ button) => button.getAttribute("aria-pressed") === "true";

class Explorer {
  /** @param {HTMLElement} place @param {Channel} channel @param {{source?: string, changed?: boolean, path?: string}} options */
  constructor(place, channel, options) {
    this.channel = channel;
    this.source = options.source ?? "";
    /** Directories that are open where nothing is searched for. @type {Set<string>} */
    this.opened = new Set();
    for (let path = options.path ?? "/"; path !== "/" && path; path = path.slice(0, path.lastIndexOf("/"))) this.opened.add(path);
    this.searches = false;
    this.id = `dm-files-${++count}`;
    this.top = root();
    /** @type {Seen[]} */
    this.rows = [];
    this.current = 0;
    this.turn = 0;
    this.states = new Set(options.changed ? STATES.slice(0, 3) : STATES);
    this.typed = "";
    this.typedAt = 0;
    this.at = -1;
    /** @type {number | string | null} */
    this.against = null;
    this.frame = 0;
    this.base = -1;
    this.before = "";
    /** @type {string[]} */
    this.labels = [];
    /** @type {string[]} */
    this.others = [];
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.travelling = undefined;
    place.append(el("style", { textContent: css }), (this.place = el("div", { className: "dm-files" })));
    this.search = el("input", { type: "search", className: "dm-search", placeholder: "search names", "aria-label": "search names" });
    this.regex = this.toggle(".*", "as a regular expression", false);
    this.chips = STATES.map((state) => {
      const chip = this.toggle(state, `show ${state}`, this.states.has(state));
      chip.textContent = `${SIGNS[state] ?? ""} ${state}`.trim();
      chip.dataset.state = state;
      return chip;
    });
    this.sort = el("select", { "aria-label": "sort by" }, ...["name", "size", "time"].map((one) => el("option", { value: one, textContent: `by ${one}` })));
    this.backwards = this.toggle("↑↓", "in the other direction", false);
    this.compare = el("select", { "aria-label": "compare with" });
    this.slider = el("input", { type: "range", min: "0", "aria-label": "layer" });
    this.label = el("output");
    this.time = el("div", { className: "dm-time" }, this.slider, this.label);
    this.spacer = el("div", { role: "none" });
    this.list = el("div", { className: "dm-list", role: "tree", tabIndex: 0, "aria-label": "files" }, this.spacer);
    this.look = new Look(channel, (words) => this.say(words), () => this.list.focus());
    this.quiet = el("div", { className: "dm-quiet", role: "status" });
    this.tar = el("button", { type: "button", textContent: "folder as .tar", title: "download the folder that is selected", disabled: true });
    this.tar.addEventListener("click", () => this.pack());
    this.bar = el("div", { className: "dm-bar" }, this.search, this.regex, ...this.chips, this.sort, this.backwards, el("label", {}, "compare with", this.compare));
    this.place.append(this.bar, this.time, el("div", { className: "dm-split" }, this.list, this.look.place), el("div", { className: "dm-foot" }, this.quiet, this.tar));
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let waiting;
    this.search.addEventListener("input", () => (clearTimeout(waiting), (waiting = setTimeout(() => this.load(), 200))));
    this.search.addEventListener("dm-key", (event) => {
      const pressed = /** @type {CustomEvent<KeyboardEvent>} */ (event).detail;
      if (pressed.key === "ArrowDown") pressed.preventDefault(), this.list.focus();
    });
    this.sort.addEventListener("change", () => this.load());
    this.slider.addEventListener("input", () => this.travel(Number(this.slider.value)));
    this.compare.addEventListener("change", () => {
      this.against = this.compare.value.startsWith("#") ? Number(this.compare.value.slice(1)) : this.compare.value || null;
      this.load();
    });
    this.list.addEventListener("scroll", () => this.later());
    this.list.addEventListener("dm-key", (event) => this.key(/** @type {CustomEvent<KeyboardEvent>} */ (event).detail));
    this.list.addEventListener("click", (event) => this.clicked(event));
    this.open();
  }

  /** @param {string} words @param {string} title @param {boolean} on */
  toggle(words, title, on) {
    const button = el("button", { type: "button", textContent: words, title, "aria-pressed": on });
    if (!/[a-z]/.test(words)) button.setAttribute("aria-label", title);
    button.addEventListener("click", () => {
      const now = !pressed(button);
      button.setAttribute("aria-pressed", String(now));
      const state = button.dataset.state;
      if (state) this.states[now ? "add" : "delete"](state);
      this.load();
    });
    return button;
  }

  async open() {
    try {
      const { value } = await this.channel.ask("files.open", { source: this.source });
      this.labels = value.states;
      this.at = this.labels.length - 1;
      this.against = value.base;
      this.time.hidden = this.labels.length < 2;
      this.slider.max = String(this.labels.length - 1);
      this.slider.value = this.slider.max;
      this.base = value.base;
      this.before = value.before;
      this.others = value.others;
      this.choices();
      await this.load(value.first);
    } catch (error) {
      this.say(error);
    }
  }

  /** What the tree can be compared with, from where the slider stands. */
  choices() {
    const labels = this.labels;
    const options = [];
    if (this.at > 0) options.push([`#${this.at - 1}`, this.before]);
    if (this.base >= 0 && this.base < this.at && this.base !== this.at - 1) options.push([`#${this.base}`, "the state before the cell"]);
    for (let at = this.at - 2; at >= 0; at--) if (at !== this.base) options.push([`#${at}`, labels[at]]);
    options.push(["#-1", "nothing"]);
    for (const other of this.others) options.push([other, other]);
    this.compare.replaceChildren(...options.map(([value, words]) => el("option", { value, textContent: words.length > 44 ? `${words.slice(0, 43)}…` : words })));
    this.compare.value = typeof this.against === "string" ? this.against : `#${this.against}`;
    this.label.textContent = labels[this.at] ?? "";
    this.slider.setAttribute("aria-valuetext", labels[this.at] ?? "");
  }

  /** The tree as it was after another layer. @param {number} at */
  travel(at) {
    this.at = at;
    if (typeof this.against !== "string") this.against = at === this.labels.length - 1 ? this.base : at - 1;
    this.choices();
    clearTimeout(this.travelling);
    this.travelling = setTimeout(() => this.load(), 120);
  }

  /** @param {unknown} words */
  say(words) {
    this.quiet.textContent = words instanceof Error ? words.message : String(words);
  }

  get asked() {
    return { source: this.source, at: this.at, against: this.against };
  }

  /** The whole list anew: directories that were open are so again, and who stood on a path stands there. @param {Listed} [first] its top, where it is here */
  async load(first) {
    const turn = ++this.turn;
    const compared = this.against !== -1;
    for (const chip of this.chips) chip.hidden = !compared;
    const states = compared ? [...this.states] : STATES;
    const path = this.rows[this.current]?.node?.path;
    this.searches = this.search.value !== "" || states.length < STATES.length;
    try {
      if (this.searches) {
        const { value } = await this.channel.ask("files.find", { ...this.asked, states, text: this.search.value, regex: pressed(this.regex) });
        if (turn !== this.turn) return;
        this.top = nested(value.rows);
        const words = `${value.rows.length.toLocaleString("en")} ${value.rows.length === 1 ? "path" : "paths"}`;
        this.say(value.truncated ? `the first ${words}: narrow the search for more` : value.rows.length ? words : this.search.value ? "nothing of that name" : "nothing changed here");
      } else {
        const top = root();
        await this.fill(top, 0, first);
        if (turn !== this.turn) return;
        this.top = top;
        this.say("");
        await this.reopen(top);
        if (turn !== this.turn) return;
      }
    } catch (error) {
      return this.say(error);
    }
    this.refresh();
    const at = this.rows.findIndex((one) => one.node && one.node.path === path);
    this.go(at < 0 ? this.current : at);
    this.look.follow(this.asked, (path) => this.rows.find((one) => one.node?.path === path)?.node);
  }

  /** Open what was open in a directory that has just come. @param {Node} up */
  async reopen(up) {
    this.weigh(up);
    const opened = (up.children ?? []).filter((one) => one?.kind === "directory" && this.opened.has(one.path));
    await Promise.all(opened.map(async (one) => {
      if (!one) return;
      await this.fill(one, 0);
      one.open = true;
      await this.reopen(one);
    }));
  }

  /** Fetch the page of a directory that holds a place; whether something came. @param {Node} up @param {number} at
   * @param {Listed} [known] */
  async fill(up, at, known) {
    const offset = up.children ? Math.floor(at / PAGE) * PAGE : 0;
    if (up.asked.has(offset)) return false;
    up.asked.add(offset);
    const asked = { ...this.asked, path: up.path, offset, sort: this.sort.value, backwards: pressed(this.backwards) };
    const listed = known ?? /** @type {Listed} */ ((await this.channel.ask("files.list", asked)).value);
    up.children ??= new Array(listed.total).fill(undefined);
    listed.rows.forEach((row, index) => {
      const place = listed.offset + index;
      if (up.children) up.children[place] = node(row, up, place);
    });
    for (let page = offset; page < listed.offset + listed.rows.length; page += PAGE) up.asked.add(page);
    return true;
  }

  /** Sizes of directories come later: they take a walk. @param {Node} up */
  async weigh(up) {
    if ((up.children?.length ?? 0) > 2000) return;
    const { value } = await this.channel.ask("files.sizes", { ...this.asked, path: up.path }).catch(() => ({ value: {} }));
    for (const one of up.children ?? []) if (one && one.name in value) one.size = value[one.name];
    this.draw();
  }

  refresh() {
    this.rows = visible(this.top);
    this.spacer.style.height = `${this.rows.length * HEIGHT}px`;
    if (!this.rows.length && !this.quiet.textContent) this.say("empty");
  }

  later() {
    this.frame ||= requestAnimationFrame(() => this.draw());
  }

  /** The rows that are seen, and a few around them. */
  draw() {
    this.frame = 0;
    const first = Math.max(0, Math.floor(this.list.scrollTop / HEIGHT) - 6);
    const last = Math.min(this.rows.length, first + Math.ceil((this.list.clientHeight || 432) / HEIGHT) + 12);
    const items = [];
    for (let index = first; index < last; index++) items.push(this.item(index));
    this.list.replaceChildren(this.spacer, ...items);
    this.tar.disabled = this.rows[this.current]?.node?.kind !== "directory";
    if (this.rows.length) this.list.setAttribute("aria-activedescendant", `${this.id}-${this.current}`);
    else this.list.removeAttribute("aria-activedescendant");
  }

  /** @param {number} index */
  item(index) {
    const { node: one, up, at } = this.rows[index];
    const place = { id: `${this.id}-${index}`, role: "treeitem", className: "dm-item", "aria-level": (up.depth ?? 0) + 2, "aria-setsize": up.children?.length ?? -1, "aria-posinset": at + 1, "aria-selected": index === this.current };
    const item = el("div", place);
    item.style.top = `${index * HEIGHT}px`;
    item.style.paddingLeft = `${(up.depth + 1) * 16 + 2}px`;
    if (!one) {
      item.append(el("span", { className: "dm-quiet", textContent: "…" }));
      this.fill(up, at).then((came) => came && (this.refresh(), this.later()), (error) => this.say(error));
      return item;
    }
    const folder = one.kind === "directory";
    const tone = TONES[one.state];
    if (folder) item.setAttribute("aria-expanded", String(one.open));
    const name = el("span", { className: "dm-name", textContent: one.name + (folder ? "/" : "") });
    if (tone) name.style.color = `var(--dm-${tone})`;
    if (one.state === "removed") name.style.textDecoration = "line-through";
    const sign = el("span", { className: "dm-sign", textContent: SIGNS[one.state] ?? (one.below ? "•" : ""), title: one.state || (one.below ? "something below changed" : "") });
    sign.style.color = `var(--dm-${tone ?? "warn"})`;
    item.append(el("span", { className: "dm-twist", textContent: folder ? "▶" : "", "aria-hidden": true }), sign, name);
    if (one.link) item.append(el("span", { className: "dm-link", textContent: `${one.kind === "hardlink" ? "same file as" : "→"} ${one.link}` }));
    const owner = one.mode ? (one.uid || one.gid ? `${one.uid}:${one.gid}` : "root") : "";
    const largest = Math.max(1, ...(up.children && up.children.length <= 2000 ? up.children.map((other) => (other?.state === "removed" ? 0 : (other?.size ?? 0))) : [0]));
    const share = el("span", { className: "dm-share" });
    if (one.size && one.state !== "removed" && largest > 1) share.style.setProperty("--share", `${Math.max(2, (100 * one.size) / largest)}%`);
    const sized = one.state !== "removed" && (one.kind === "file" || one.kind === "hardlink" || one.size > 0);
    item.append(el("span", { className: "dm-meta", textContent: `${one.mode} ${owner}` }), share, el("span", { className: "dm-size", textContent: sized ? humanSize(one.size) : "" }));
    item.setAttribute("aria-label", [one.name, folder ? "folder" : one.kind === "link" ? `link to ${one.link}` : "", one.state || (one.below ? "changed inside" : ""), sized ? humanSize(one.size) : ""].filter(Boolean).join(", "));
    return item;
  }

  /** @param {MouseEvent} event */
  clicked(event) {
    const item = /** @type {Element} */ (event.target).closest(".dm-item");
    if (!item) return;
    this.go(Number(item.id.slice(this.id.length + 1)));
    this.enter();
  }

  /** @param {number} index */
  go(index) {
    this.current = Math.max(0, Math.min(index, this.rows.length - 1));
    const top = this.current * HEIGHT;
    if (top < this.list.scrollTop) this.list.scrollTop = top;
    else if (top + HEIGHT > this.list.scrollTop + this.list.clientHeight) this.list.scrollTop = top + HEIGHT - this.list.clientHeight;
    this.draw();
  }

  /** Open or close a directory, look at a file. */
  enter() {
    const one = this.rows[this.current]?.node;
    if (!one) return;
    if (one.kind === "directory") this.fold(one, !one.open);
    else this.look.show(one, this.asked);
  }

  /** @param {Node} one @param {boolean} open */
  async fold(one, open) {
    one.open = open;
    if (!this.searches) this.opened[open ? "add" : "delete"](one.path);
    if (open && !one.children) {
      try {
        await this.fill(one, 0);
        this.weigh(one);
      } catch (error) {
        one.open = false;
        this.say(error);
      }
    }
    this.refresh();
    this.draw();
  }

  /** The folder that is selected, as one file. */
  pack() {
    const one = this.rows[this.current]?.node;
    if (!one) return;
    this.tar.disabled = true;
    const asked = { ...this.asked, of: "files", path: one.path, removed: one.state === "removed" };
    const done = () => this.later();
    this.channel.download(`${one.name}.tar`, asked).then(done, (error) => (this.say(error), done()));
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const row = this.rows[this.current];
    const one = row?.node;
    const page = Math.max(1, Math.floor(this.list.clientHeight / HEIGHT) - 1);
    const steps = /** @type {Record<string, number>} */ ({ ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -this.rows.length, End: this.rows.length });
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in steps) this.go(this.current + steps[event.key]);
    else if (event.key === "ArrowRight" && one?.kind === "directory") one.open ? this.go(this.current + 1) : this.fold(one, true);
    else if (event.key === "ArrowLeft" && one?.open) this.fold(one, false);
    else if (event.key === "ArrowLeft" && row) this.go(this.rows.findIndex((other) => other.node === row.up));
    else if (event.key === "Enter" || (event.key === " " && !this.typed)) this.enter();
    else if (event.key === "Escape" && this.look.isOpen) this.look.close();
    else if (event.key.length === 1) this.type(event.key);
    else return;
    event.preventDefault();
  }

  /** To the next name that begins with what was typed. @param {string} letter */
  type(letter) {
    const now = Date.now();
    this.typed = (now - this.typedAt < 700 ? this.typed : "") + letter.toLowerCase();
    this.typedAt = now;
    setTimeout(() => Date.now() - this.typedAt >= 700 && (this.typed = ""), 750);
    const from = this.current + (this.typed.length === 1 ? 1 : 0);
    for (let step = 0; step < this.rows.length; step++) {
      const index = (from + step) % this.rows.length;
      if (this.rows[index].node?.name.toLowerCase().startsWith(this.typed)) return this.go(index);
    }
  }
}

/** @param {HTMLElement} place @param {Channel} channel @param {any} options */
export function mount(place, channel, options) {
  const explorer = new Explorer(place, channel, options);
  return () => cancelAnimationFrame(explorer.frame);
}
