// Helpers for elements of the page.

/** Returns an element with properties; its content is strings and elements. */
export function element(tag, properties = {}, ...content) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...content);
  return made;
}

/** Returns an element that shows the error of an input while its value is invalid. */
export function checked(input) {
  const error = element("p", { className: "error", role: "status" });
  input.addEventListener("input", () => {
    input.ariaInvalid = String(!input.validity.valid);
    error.textContent = input.validationMessage;
  });
  return error;
}

/** Returns a choice of a select. */
export function option(value, label, disabled = false) {
  return element("option", { value, disabled }, label);
}

/** Chooses a value, or another one if it is not offered. */
export function choose(select, value, other) {
  select.value = value;
  if (select.selectedIndex < 0) select.value = other;
}

/** Sets the place of an element, in px. */
export function put(placed, x, y, width, height) {
  Object.assign(placed.style, { left: `${x}px`, top: `${y}px`, width: `${width}px`, height: `${height}px` });
}

export function byId(id) {
  return document.getElementById(id);
}

/** Shows or hides an element, if it is not already. A focus in it moves to the nearest focusable ancestor. */
export function show(shown, visible) {
  if (shown.hidden !== visible) return;
  const hadFocus = shown.contains(document.activeElement);
  shown.hidden = !visible;
  if (hadFocus) shown.parentElement.closest("[tabindex]")?.focus();
}
