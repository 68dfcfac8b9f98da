// Texts by name, in the language of the file that is imported here.

import texts from "./en.js";

const plural = new Intl.PluralRules(texts.lang);

/** Returns a text with its {names} filled in. */
export function text(name, values = {}) {
  return (texts[name] ?? name).replace(/\{(\w+)\}/g, (_, key) => values[key] ?? "");
}

/** Returns the text for a number, in singular or plural. */
export function counted(name, count) {
  return text(`${name}.${plural.select(count)}`, { count });
}

/** Returns the text, or the fallback if the language has none with this name. */
export function textOr(name, fallback, values = {}) {
  return name in texts ? text(name, values) : fallback;
}

/** Returns a duration, rounded so that it does not flicker. */
export function duration(seconds) {
  if (seconds >= 90) return text("time.minutes", { count: Math.round(seconds / 60) });
  const step = seconds > 20 ? 5 : 1;
  return text("time.seconds", { count: Math.max(1, Math.round(seconds / step) * step) });
}

/** Returns a number of bytes in MB, with one decimal; `round` is Math.ceil or Math.floor. */
export function megabytes(bytes, round) {
  return text("size.megabytes", { count: new Intl.NumberFormat(texts.lang).format(round(bytes / 1e5) / 10) });
}

/** Returns the label for the value of a setting. */
export function settingText(name, value) {
  if (`size.unit.${name}` in texts) return `${value} ${text(`size.unit.${name}`)}`;
  const label = textOr(`${name}.label`, name.replaceAll("_", " "));
  return value === true ? label : text("settings.value", { label, value: textOr(`${name}.${value}`, value) });
}

/** Sets the texts of all elements with data-text, for the content, or data-label, for screen readers. */
export function translate(root) {
  Object.assign(root.documentElement, { lang: texts.lang, dir: texts.dir });
  for (const element of root.querySelectorAll("[data-text]")) element.textContent = text(element.dataset.text);
  for (const element of root.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", text(element.dataset.label));
    if (element.matches("button")) element.title = text(element.dataset.label);
  }
}
