// Makes elements of the page.

/** Returns an element with properties, and with strings and elements in it. */
export function element(tag, properties = {}, ...content) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...content);
  return made;
}

export function byId(id) {
  return document.getElementById(id);
}

/** Shows an element or hides it, without hiding twice what is hidden. */
export function show(shown, visible) {
  if (shown.hidden === visible) shown.hidden = !visible;
}
