// A card that Python draws. It sends the whole card as the trait `html`, and while something runs messages with the
// parts that changed and with new lines of output; this module puts them in place, keeps the clocks going, and hands the
// buttons on. All markup comes from Python, escaped there. What needs more than markup (the files, a terminal) is a
// module of its own, which is asked for when somebody opens it and kept for the page.

const KEPT_LINES = 1000;
const PATIENCE = 30_000;

/** @typedef {{get(name: string): any, on(name: string, f: Function): void, off(name: string, f: Function): void, send(m: any): void}} Model */
/** @typedef {{lines: string[], rest: string, skipped: number, reset: boolean}} Log */
/** @typedef {{t: string, id?: number, value?: any, error?: string, parts?: Record<string, string>, order?: string[], logs?: Record<string, Log>, now?: number}} Message */
/** @typedef {{value: any, buffers: DataView[]}} Answer */
/** What a module is given: `ask` gets an answer from Python, `send` wants none, `listen` hears what Python says to `to`.
 * @typedef {{ask(t: string, more?: object): Promise<Answer>, send(message: object): void, listen(to: string, f: (message: any, buffers: DataView[]) => void): () => void, download(name: string, more: object): Promise<void>}} Channel */
/** @typedef {{mount(root: HTMLElement, channel: Channel, options: any): (() => void) | void}} Module */

/** Seconds as the rest of the card writes them. @param {number} seconds */
export function duration(seconds) {
  seconds = Math.max(0, seconds);
  if (seconds < 59.95) return `${seconds.toFixed(1)}s`;
  const whole = Math.round(seconds);
  const two = (/** @type {number} */ n) => String(n).padStart(2, "0");
  if (whole < 3600) return `${Math.floor(whole / 60)}m ${two(whole % 60)}s`;
  return `${Math.floor(whole / 3600)}h ${two(Math.floor((whole % 3600) / 60))}m`;
}

/** A module of the package by its name and the digest of its text, loaded once a page.
 * @param {string} named @param {Channel} channel @returns {Promise<Module>} */
function load(named, channel) {
  const page = /** @type {any} */ (globalThis);
  /** @type {Map<string, Promise<Module>>} */
  const known = (page.dockermagicModules ??= new Map());
  const found = known.get(named);
  if (found) return found;
  const [name] = named.split("@");
  const made = channel.ask("module", { name }).then(({ value }) => {
    const url = URL.createObjectURL(new Blob([value], { type: "text/javascript" }));
    return import(/* webpackIgnore: true */ url).finally(() => URL.revokeObjectURL(url));
  });
  known.set(named, made);
  made.catch(() => known.delete(named));
  return made;
}

/** Questions to Python and their answers, told apart by a number. @implements {Channel} */
class Wire {
  /** @param {Model} model */
  constructor(model) {
    this.model = model;
    this.count = 0;
    /** @type {Map<number, {done: (answer: Answer) => void, failed: (error: Error) => void}>} */
    this.waiting = new Map();
    /** @type {Map<string, (message: any, buffers: DataView[]) => void>} */
    this.listeners = new Map();
  }

  /** @param {object} message */
  send(message) {
    try {
      this.model.send(message);
    } catch (error) {
      console.warn(error); // a notebook that is closed has lost its kernel before its cards end
    }
  }

  /** @param {string} t @param {object} [more] @returns {Promise<Answer>} */
  ask(t, more = {}) {
    const id = ++this.count;
    return new Promise((done, failed) => {
      const late = setTimeout(() => this.answered({ t, id, error: "no answer: is the kernel still there?" }, []), PATIENCE);
      const settle = (/** @type {Function} */ f) => (/** @type {any} */ value) => (clearTimeout(late), f(value));
      this.waiting.set(id, { done: settle(done), failed: settle(failed) });
      this.model.send({ ...more, t, id });
    });
  }

  /** @param {Message} message @param {DataView[]} buffers */
  answered(message, buffers) {
    const waiting = this.waiting.get(Number(message.id));
    this.waiting.delete(Number(message.id));
    if (message.error) waiting?.failed(new Error(message.error));
    else waiting?.done({ value: message.value, buffers });
  }

  /** @param {string} to @param {(message: any, buffers: DataView[]) => void} f */
  listen(to, f) {
    this.listeners.set(to, f);
    return () => void this.listeners.delete(to);
  }

  /** Fetch a file piece by piece and hand it to the browser. @param {string} name @param {object} more */
  async download(name, more) {
    /** @type {BlobPart[]} */
    const pieces = [];
    let { value, buffers } = await this.ask("download", more);
    for (;;) {
      pieces.push(...buffers.map((one) => /** @type {BlobPart} */ (new Uint8Array(one.buffer, one.byteOffset, one.byteLength))));
      if (value.end) break;
      ({ value, buffers } = await this.ask("download", { next: value.next }));
    }
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(pieces));
    link.download = value.name || name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }
}

class Card {
  /** @param {HTMLElement} root @param {Model} model */
  constructor(root, model) {
    this.root = root;
    this.model = model;
    this.wire = new Wire(model);
    this.offset = 0;
    /** @type {Map<string, string>} */
    this.applied = new Map();
    /** @type {Map<string, {root: HTMLElement, end: () => void}>} */
    this.mounted = new Map();
    this.draw();
  }

  /** The whole card anew; what a person has unfolded stays so. */
  draw() {
    const open = new Set([...this.root.querySelectorAll("details[open] > summary")].map((one) => one.textContent));
    this.root.innerHTML = this.model.get("html");
    this.applied.clear();
    for (const [name, one] of this.mounted) {
      const place = this.place(name);
      if (place) place.replaceWith(one.root);
      else this.unmount(name);
    }
    for (const one of this.root.querySelectorAll("details > summary"))
      if (open.has(one.textContent)) /** @type {HTMLDetailsElement} */ (one.parentElement).open = true;
    for (const one of this.root.querySelectorAll("[data-place][data-module]"))
      if (!one.closest("details:not([open])") && !one.hasAttribute("hidden")) this.mount(/** @type {HTMLElement} */ (one));
    this.tick();
  }

  /** @param {string} name @returns {HTMLElement | null} */
  place(name) {
    return this.root.querySelector(`[data-place="${CSS.escape(name)}"]`);
  }

  /** Begin a module in its place. @param {HTMLElement} root */
  mount(root) {
    const { place: name = "", module = "", options = "{}" } = root.dataset;
    if (this.mounted.get(name)?.root === root) return;
    const here = { root, end: () => {} };
    this.mounted.set(name, here);
    root.hidden = false;
    load(module, this.wire)
      .then(({ mount }) => {
        if (this.mounted.get(name) !== here) return;
        root.replaceChildren();
        here.end = mount(root, this.wire, JSON.parse(options)) ?? here.end;
      })
      .catch((error) => {
        this.mounted.delete(name);
        root.textContent = error.message;
      });
  }

  /** @param {string} name */
  unmount(name) {
    const here = this.mounted.get(name);
    this.mounted.delete(name);
    here?.end();
  }

  tick() {
    for (const one of this.root.querySelectorAll(".dm-clock"))
      one.textContent = duration(Date.now() / 1000 - this.offset - Number(one.getAttribute("data-since")));
  }

  /** @param {Message} message @param {DataView[]} buffers */
  receive(message, buffers) {
    if (message.now) this.offset = Date.now() / 1000 - message.now;
    for (const [name, html] of Object.entries(message.parts ?? {})) this.part(name, html, message.order ?? []);
    for (const [name, log] of Object.entries(message.logs ?? {})) this.log(name, log);
    if (message.t === "answer") this.wire.answered(message, buffers);
    else this.wire.listeners.get(message.t)?.(message, buffers);
    if (message.t === "heard" || message.t === "free") clearTimeout(this.waiting);
    if (message.t === "free") this.freed();
    this.tick();
  }

  /** What buttons asked for is done. */
  freed() {
    for (const button of /** @type {NodeListOf<HTMLButtonElement>} */ (this.root.querySelectorAll("button[data-words]"))) {
      button.disabled = false;
      button.textContent = button.dataset.words ?? "";
      delete button.dataset.words;
    }
  }

  /** What is drawn of a part: an element, of a step its rows. @param {string} name */
  found(name) {
    return /** @type {HTMLElement[]} */ ([...this.root.querySelectorAll(`[data-part="${CSS.escape(name)}"]`)]);
  }

  /** @param {string} name @param {string} html @param {string[]} order */
  part(name, html, order) {
    if (this.applied.get(name) === html) return;
    this.applied.set(name, html);
    const old = this.found(name);
    if (!name.startsWith("step-")) {
      if (old[0]) old[0].innerHTML = html;
      return;
    }
    const holder = document.createElement("tbody");
    holder.innerHTML = html;
    const rows = /** @type {HTMLElement[]} */ ([...holder.children]);
    for (const row of rows) row.dataset.part = name;
    if (!html.includes('aria-label="running"')) this.root.querySelector(`[data-log="${CSS.escape(name)}"]`)?.remove();
    const before = order.slice(0, order.indexOf(name)).reverse().map((one) => this.found(one).at(-1)).find((one) => one?.matches("tr"));
    const below = before?.nextElementSibling;
    if (old[0]) old[0].before(...rows);
    else if (before) (below?.hasAttribute("data-log") ? below : before).after(...rows);
    else this.root.querySelector("tbody")?.prepend(...rows);
    for (const row of old) row.remove();
  }

  /** New lines of output; the view follows unless somebody scrolled up. @param {string} name @param {Log} log */
  log(name, log) {
    const pane = this.pane(name);
    if (!pane) return;
    const follows = pane.scrollHeight - pane.scrollTop - pane.clientHeight < 30;
    if (log.reset) pane.replaceChildren();
    else if (pane.lastElementChild?.classList.contains("dm-rest")) pane.lastElementChild.remove();
    const fresh = document.createDocumentFragment();
    const add = (/** @type {string} */ html, /** @type {string} */ kind) => {
      const line = document.createElement("div");
      line.className = kind;
      line.innerHTML = html || "&#8203;";
      fresh.append(line);
    };
    if (log.skipped) add(`<em style="opacity:.7">… ${log.skipped.toLocaleString("en")} lines</em>`, "");
    for (const html of log.lines) add(html, "");
    if (log.rest) add(log.rest, "dm-rest");
    pane.append(fresh);
    while (pane.childElementCount > KEPT_LINES) pane.firstElementChild?.remove();
    if (follows) pane.scrollTop = pane.scrollHeight;
  }

  /** @param {string} name @returns {HTMLElement | null} */
  pane(name) {
    const known = this.root.querySelector(`[data-log="${CSS.escape(name)}"]`);
    if (known) return known.matches("pre") ? /** @type {HTMLElement} */ (known) : known.querySelector("pre");
    const row = this.found(name).at(-1);
    if (!row) return null;
    const holder = document.createElement("tr");
    holder.dataset.log = name;
    holder.style.background = "transparent";
    const style = row.children[1]?.getAttribute("style") ?? "";
    holder.innerHTML = `<td style="${style};padding:0"></td><td class="dm-log" colspan="2" style="${style};padding:0 12px 8px"><pre tabindex="0" role="region" aria-label="output"></pre></td>`;
    const pane = /** @type {HTMLElement} */ (holder.querySelector("pre"));
    pane.style.cssText = "margin:0;padding:7px 10px;border-radius:6px;background:var(--dm-tint);color:inherit;font:12px/1.5 var(--jp-code-font-family,ui-monospace,Menlo,Consolas,monospace);white-space:pre-wrap;overflow-wrap:anywhere;text-align:left";
    row.after(holder);
    return pane;
  }

  /** What a button's attributes say: tell Python, save a file, or begin a module. @param {HTMLButtonElement} button */
  pressed(button) {
    const { send, busy, save, opens, cell } = button.dataset;
    if (send) {
      // Where the front end can run the cell itself, it does: then the old error goes with the old output.
      const asked = new CustomEvent("dockermagic-run", { bubbles: true, cancelable: true, detail: cell });
      if (cell && !button.dispatchEvent(asked)) return;
      this.model.send({ t: send, waits: Boolean(busy) });
      if (!busy) return;
      button.dataset.words = button.textContent ?? "";
      button.disabled = true;
      button.textContent = busy;
      // A kernel without subshells hears of it only when the cell is done: then the front end's own button is the way.
      this.waiting = setTimeout(() => (button.textContent = button.dataset.late ?? busy), 2500);
    } else if (save) {
      const words = button.textContent;
      button.disabled = true;
      const restored = () => ((button.disabled = false), (button.textContent = words));
      this.wire.download(save, { of: button.dataset.of }).then(restored, (error) => {
        restored();
        button.title = button.textContent = error.message;
      });
    } else if (opens) {
      const place = this.place(opens);
      if (!place) return;
      const shows = place.hidden || place.dataset.options !== button.dataset.options;
      for (const one of this.root.querySelectorAll(`[data-opens="${CSS.escape(opens)}"]`))
        one.setAttribute("aria-pressed", String(shows && one === button));
      this.unmount(opens);
      place.hidden = true;
      if (!shows) return;
      place.dataset.module = button.dataset.module ?? "";
      place.dataset.options = button.dataset.options ?? "{}";
      this.mount(place);
    }
  }
}

export default {
  /** @param {{model: Model, el: HTMLElement}} context */
  render({ model, el }) {
    const root = document.createElement("div");
    root.className = "dm-root";
    el.append(root);
    const card = new Card(root, model);
    const draw = () => card.draw();
    const receive = (/** @type {Message} */ message, /** @type {DataView[]} */ buffers) => card.receive(message, buffers ?? []);
    model.on("change:html", draw);
    model.on("msg:custom", receive);
    const toggled = (/** @type {Event} */ event) => {
      const details = /** @type {HTMLDetailsElement} */ (event.target);
      const place = /** @type {HTMLElement | null} */ (details.open && details.querySelector("[data-place][data-module]"));
      if (place && !place.hidden) card.mount(place);
    };
    root.addEventListener("toggle", toggled, true);
    root.addEventListener("click", (event) => {
      const button = /** @type {HTMLButtonElement | null} */ (/** @type {Element} */ (event.target).closest("button"));
      if (button && !button.closest("[data-place]")) card.pressed(button);
    });
    // A notebook in command mode takes letters, arrows and Enter for itself, before they reach what has the focus.
    const pressed = (/** @type {KeyboardEvent} */ event) => {
      const target = /** @type {Element} */ (event.target);
      const passes = event.ctrlKey || event.metaKey || event.altKey || (event.shiftKey && event.key === "Enter");
      if (passes || !root.contains(target) || target.closest(".xterm")) return;
      event.stopPropagation();
      target.dispatchEvent(new CustomEvent("dm-key", { detail: event }));
    };
    window.addEventListener("keydown", pressed, true);
    const clock = setInterval(() => card.tick(), 100);
    model.send({ t: "hello", keeps: Boolean(/** @type {any} */ (globalThis).dockermagicFallback) });
    return () => {
      clearInterval(clock);
      window.removeEventListener("keydown", pressed, true);
      for (const name of card.mounted.keys()) card.unmount(name);
      model.off("change:html", draw);
      model.off("msg:custom", receive);
    };
  },
};
