// The field for the size of the answer: a factor, or a size in pixels if the service supports it.

import { checked, choose, element, option, show } from "./elements.js";
import { SIZES } from "./parameters.js";
import { text } from "./texts.js";

const PRESETS = [
  ["width", 1920],
  ["width", 3840],
];
const FIRST = { scale: 3, width: 3840, height: 2160, max_side: 3840, megapixels: 12 };

/** Choices are "scale=2", "width=3840", and "width" if the user types the number. */
export function sizeField(parameters) {
  const select = element("select", { id: "setting-size" });
  select.setAttribute("aria-describedby", "hint-size");
  const number = element("input", { type: "number", id: "setting-size-number", step: "any" });
  const unit = element("label", { htmlFor: number.id, className: "unit" });
  const exact = element("div", { className: "exact" }, number, unit, checked(number));
  const result = element("p", { className: "result" });
  const hint = element("p", { className: "hint", id: "hint-size" }, text("size.hint"));
  const label = element("label", { htmlFor: select.id }, text("size.label"));
  const row = element("div", { className: "field" }, label, select, exact, result, hint);
  let own; // scale of the model; null until it is known, when the model has been loaded
  const ownChoice = () => `scale=${own ?? ""}`;

  function showNumber() {
    const name = select.value;
    show(exact, SIZES.includes(name));
    if (!SIZES.includes(name)) return;
    const { min, max, whole } = parameters.get(name);
    const most = max ?? (name === "scale" && own ? own : "");
    Object.assign(number, { min: min ?? 0, max: most, step: whole ? 1 : "any" });
    number.dispatchEvent(new Event("input")); // validates it
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
      const typed = number.validity.valid ? number.valueAsNumber : 0;
      const value = preset === undefined ? typed : Number(preset);
      return (name === "scale" && value === own) || !(value > 0) ? {} : { [name]: value };
    },
    write: (values) => {
      const name = SIZES.find((size) => size in values && parameters.has(size));
      number.value = values[name] ?? "";
      choose(select, name ? `${name}=${values[name]}` : ownChoice(), name);
      showNumber();
    },
    tell: ({ scale }) => {
      if (scale === own) return;
      const { value } = select;
      const keeps = own !== undefined && (scale || value !== ownChoice()); // an unknown default scale is not a number
      own = scale;
      select.replaceChildren(...choices(parameters, scale));
      choose(select, keeps ? value : ownChoice(), ownChoice());
      showNumber();
    },
  };
}

function choices(parameters, scale) {
  const most = Math.max(scale, parameters.get("scale").max ?? scale);
  const others = [2, 3, 4, 8].filter((factor) => factor !== scale && factor <= most);
  const factors = [...(scale ? [scale] : []), ...others].sort((a, b) => a - b);
  return [
    ...(scale ? [] : [option("scale=", text("settings.default"))]),
    ...factors.map((factor) => option(`scale=${factor}`, text("size.factor", { factor }))),
    ...PRESETS.filter(([name]) => parameters.has(name)).map(([name, value]) =>
      option(`${name}=${value}`, text(`size.${name}.${value}`)),
    ),
    ...SIZES.filter((name) => parameters.has(name)).map((name) => option(name, text(`size.${name}`))),
  ];
}
