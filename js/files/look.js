// A look into one file beside the tree: its text, its picture or its bytes, what changed in it, and a copy of it.

import { el } from "./element.js";

/** @typedef {import("../../dockermagic/notebook/static/card.js").Channel} Channel */
/** @typedef {import("./tree.js").Node} Entry */

export class Look {
  /** @param {Channel} channel @param {(words: unknown) => void} say @param {() => void} closed */
  constructor(channel, say, closed) {
    this.channel = channel;
    this.say = say;
    this.closed = closed;
    this.path = "";
    this.tree = "";
    this.place = el("section", { className: "dm-look", hidden: true, "aria-label": "file" });
  }

  get isOpen() {
    return !this.place.hidden;
  }

  close() {
    this.place.hidden = true;
    this.closed();
  }

  /** Show the same file in other trees, nothing where it is not to be seen there.
   * @param {object} tree @param {(path: string) => Entry | undefined} find */
  follow(tree, find) {
    if (!this.isOpen || this.tree === JSON.stringify(tree)) return;
    const one = find(this.path);
    if (one) this.show(one, tree);
    else this.place.hidden = true;
  }

  /** @param {Entry} one @param {object} tree which trees are asked, as every question about files says it */
  async show(one, tree) {
    this.path = one.path;
    this.tree = JSON.stringify(tree);
    const asked = { ...tree, path: one.path, removed: one.state === "removed" };
    const close = this.button("close", () => this.close());
    const save = this.button("download", () => this.channel.download(one.name, { ...asked, of: "files" }).catch(this.say));
    const header = el("header", {}, el("strong", { textContent: one.path }), save, close);
    const isFile = one.kind === "file" || one.kind === "hardlink";
    const words = one.kind === "link" ? `a link to ${one.link}` : isFile ? "…" : `a ${one.kind}`;
    this.place.replaceChildren(header, el("div", { className: "dm-quiet", textContent: words }));
    this.place.hidden = false;
    if (!isFile) return save.remove();
    const put = (/** @type {string} */ kind) => this.content(kind, asked, one.name).then((shown) => this.place.replaceChildren(header, ...shown), this.say);
    if (one.state === "modified") {
      const changed = this.button("what changed", () => {
        const now = changed.getAttribute("aria-pressed") !== "true";
        changed.setAttribute("aria-pressed", String(now));
        put(now ? "files.diff" : "files.view");
      });
      changed.setAttribute("aria-pressed", "false");
      header.insertBefore(changed, save);
    }
    await put("files.view");
  }

  /** @param {string} words @param {() => void} pressed */
  button(words, pressed) {
    const button = el("button", { type: "button", textContent: words });
    button.addEventListener("click", pressed);
    return button;
  }

  /** @param {string} kind @param {object} asked @param {string} name */
  async content(kind, asked, name) {
    const { value, buffers } = await this.channel.ask(kind, asked);
    const shown = [];
    if (value.note) shown.push(el("div", { className: "dm-quiet", textContent: value.note }));
    if (value.kind === "image") {
      const url = URL.createObjectURL(new Blob([/** @type {BlobPart} */ (buffers[0])], { type: value.mime }));
      const image = el("img", { src: url, alt: name });
      image.addEventListener("load", () => URL.revokeObjectURL(url));
      shown.push(image);
    } else if (value.html) shown.push(el("pre", { tabIndex: 0, role: "region", "aria-label": name, innerHTML: value.html }));
    return shown;
  }
}
