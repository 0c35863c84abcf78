/** An element with its properties, attributes and children.
 * @template {keyof HTMLElementTagNameMap} K @param {K} name @param {object} [properties] @param {(Node | string)[]} children */
export function el(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties))
    if (key in made && key !== "list" && key !== "role") /** @type {any} */ (made)[key] = value;
    else made.setAttribute(key, String(value));
  made.append(.../** @type {any[]} */ (children));
  return made;
}
