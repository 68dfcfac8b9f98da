// The field for the size of the answer: a factor, or a measure in pixels where the service takes one.

import { element, show } from "./elements.js";
import { SIZES } from "./parameters.js";
import { text } from "./texts.js";

const PRESETS = [
  ["width", 1920],
  ["width", 3840],
];
const FIRST = { scale: 3, width: 3840, height: 2160, max_side: 3840, megapixels: 12 };

/** Choices are "scale=2", "width=3840", and "width" where the person types the number. */
export function sizeField(parameters) {
  const select = element("select", { id: "setting-size" });
  select.setAttribute("aria-describedby", "hint-size");
  const number = element("input", { type: "number", id: "setting-size-number", step: "any" });
  const unit = element("label", { htmlFor: number.id, className: "unit" });
  const exact = element("div", { className: "exact" }, number, unit);
  const result = element("p", { className: "result" });
  const hint = element("p", { className: "hint", id: "hint-size" }, text("size.hint"));
  const label = element("label", { htmlFor: select.id }, text("size.label"));
  const row = element("div", { className: "field" }, label, select, exact, result, hint);
  let own = 0;

  function showNumber() {
    const name = select.value;
    show(exact, SIZES.includes(name));
    if (!SIZES.includes(name)) return;
    const { min, max } = parameters.get(name);
    Object.assign(number, { min: min ?? 0, max: max ?? (name === "scale" ? own : "") });
    unit.textContent = text(`size.unit.${name}`);
  }

  select.addEventListener("input", () => {
    if (SIZES.includes(select.value)) number.value = FIRST[select.value];
    showNumber();
  });
  return {
    row,
    result,
    read: () => {
      const [name, preset] = select.value.split("=");
      const value = preset ? Number(preset) : number.valueAsNumber;
      return (name === "scale" && value === own) || !(value > 0) ? {} : { [name]: value };
    },
    write: (values) => {
      const name = SIZES.find((size) => size in values);
      if (!name) {
        select.value = `scale=${own}`;
        showNumber();
        return;
      }
      number.value = values[name];
      select.value = `${name}=${values[name]}`;
      if (select.selectedIndex < 0) select.value = name;
      showNumber();
    },
    tell: ({ scale }) => {
      if (scale === own || !scale) return;
      const chosen = own ? select.value : null;
      own = scale;
      select.replaceChildren(...choices(parameters, scale));
      select.value = chosen ?? `scale=${own}`;
      if (select.selectedIndex < 0) select.value = `scale=${own}`;
      showNumber();
    },
  };
}

function choices(parameters, scale) {
  const most = Math.max(scale, parameters.get("scale").max ?? scale);
  const factors = [scale, ...[2, 3, 4, 8].filter((factor) => factor !== scale && factor <= most)].sort((a, b) => a - b);
  return [
    ...factors.map((factor) => option(`scale=${factor}`, text("size.factor", { factor }))),
    ...PRESETS.filter(([name]) => parameters.has(name)).map(([name, value]) =>
      option(`${name}=${value}`, text(`size.${name}.${value}`)),
    ),
    ...SIZES.filter((name) => parameters.has(name)).map((name) => option(name, text(`size.${name}`))),
  ];
}

function option(value, label) {
  return element("option", { value }, label);
}
