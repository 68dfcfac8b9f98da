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

/** Returns a sentence about a value that its input does not take, which appears while that is there. */
export function checked(input) {
  const error = element("p", { className: "error", role: "status" });
  input.addEventListener("input", () => {
    input.ariaInvalid = String(!input.validity.valid);
    error.textContent = input.validationMessage;
  });
  return error;
}

export function byId(id) {
  return document.getElementById(id);
}

/** Shows an element or hides it, without hiding twice what is hidden. A focus in it goes to what it is part of. */
export function show(shown, visible) {
  if (shown.hidden !== visible) return;
  const hadFocus = shown.contains(document.activeElement);
  shown.hidden = !visible;
  if (hadFocus) shown.parentElement.closest("[tabindex]")?.focus();
}
