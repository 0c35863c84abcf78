// A tree of files as values: nodes that fill up page by page, and the rows that are to be seen of them.

/** name, kind, state, size, mode, uid, gid, link, mtime, whether something below changed
 * @typedef {[string, string, string, number, string, number, number, string, number, boolean]} Row */
/** @typedef {{path: string, name: string, kind: string, state: string, size: number, mode: string, uid: number, gid: number, link: string, below: boolean, depth: number, up: Node | null, open: boolean, children: (Node | undefined)[] | null, asked: Set<number>, at: number}} Node */
/** A row that is to be seen: a node, and where it is not here yet its directory and place.
 * @typedef {{node: Node | undefined, up: Node, at: number}} Seen */

/** As the rest of the card writes it. @param {number} bytes */
export function humanSize(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (bytes >= 1000 && unit < units.length - 1) (bytes /= 1000), unit++;
  return `${bytes >= 100 ? Math.round(bytes) : Number(bytes.toPrecision(3))}${units[unit]}`;
}

/** @param {Row} row @param {Node | null} up @param {number} at @returns {Node} */
export function node(row, up, at) {
  const [name, kind, state, size, mode, uid, gid, link, , below] = row;
  const path = up ? `${up.path === "/" ? "" : up.path}/${name}` : name;
  return { path, name, kind, state, size, mode, uid, gid, link, below, depth: up ? up.depth + 1 : -1, up, open: false, children: null, asked: new Set(), at };
}

/** A root to hang a tree on. @returns {Node} */
export const root = () => node(["/", "directory", "", 0, "", 0, 0, "", 0, false], null, 0);

/** Found paths as a tree that is open; directories on the way that were not found themselves are there as well.
 * @param {Row[]} rows @returns {Node} */
export function nested(rows) {
  const top = root();
  /** @type {Map<string, Node>} */
  const known = new Map([["", top]]);
  const place = (/** @type {string} */ path) => {
    const found = known.get(path);
    if (found) return found;
    const cut = path.lastIndexOf("/");
    const up = /** @type {Node} */ (place(path.slice(0, cut)));
    const made = node([path.slice(cut + 1), "directory", "", 0, "", 0, 0, "", 0, false], up, 0);
    (up.children ??= []).push(made);
    up.open = true;
    known.set(path, made);
    return made;
  };
  for (const row of rows) {
    const one = place(row[0]);
    const name = one.name;
    Object.assign(one, node(row, one.up, 0), { name, path: row[0], children: one.children, open: one.open });
  }
  for (const one of known.values()) {
    one.children?.sort((a, b) => Number(b?.kind === "directory") - Number(a?.kind === "directory") || (/** @type {Node} */ (a).name < /** @type {Node} */ (b).name ? -1 : 1));
    one.children?.forEach((child, at) => child && (child.at = at));
  }
  top.children ??= [];
  return top;
}

/** The rows that are to be seen, in order: nodes, and for those not yet here their directory and place.
 * @param {Node} top @returns {Seen[]} */
export function visible(top) {
  /** @type {Seen[]} */
  const out = [];
  const walk = (/** @type {Node} */ up) => {
    const children = up.children ?? [];
    for (let at = 0; at < children.length; at++) {
      const one = children[at];
      out.push({ node: one, up, at });
      if (one?.open && one.children) walk(one);
    }
  };
  walk(top);
  return out;
}
