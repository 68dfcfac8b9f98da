// The form with the settings, made from the service's OpenAPI document and its list of models.

import { checked, choose, element, option, show } from "./elements.js";
import { SIZES } from "./parameters.js";
import { sizeField } from "./size_field.js";
import { remember, remembered } from "./storage.js";
import { text, textOr } from "./texts.js";

const SESSION = "esrgan-settings";
const SHOWN = ["model", "size", "fidelity", "format", "quality"]; // the rest is folded away, in this order:
const FOLDED = ["colour_lock", "ensemble", "edges", "frames", "metadata", "bits", "compression"];
const WITH_QUALITY = ["jpeg", "webp", "avif", "jxl", "same"];
const FIDELITY_STEP = 0.05;

/** Sends "change" when a setting has changed. */
export class SettingsForm extends EventTarget {
  #fields = new Map();
  #models;
  #root;

  constructor(root, parameters, models) {
    super();
    this.#root = root;
    this.#models = models;
    const make = this.#makers();
    const names = ["size", ...parameters.keys()].filter((name) => !SIZES.includes(name));
    const shown = SHOWN.filter((name) => names.includes(name));
    const known = FOLDED.filter((name) => names.includes(name));
    const more = [...known, ...names.filter((name) => ![...SHOWN, ...FOLDED].includes(name))];
    for (const name of [...shown, ...more]) {
      this.#fields.set(name, (make[name] ?? make[parameters.get(name)?.kind])(parameters.get(name), parameters));
    }
    const rows = (chosen) => chosen.map((name) => this.#fields.get(name).row);
    const fold = element("details", {}, element("summary", {}, text("settings.more")), ...rows(more));
    root.replaceChildren(...rows(shown), ...(more.length ? [fold] : []));
    root.addEventListener("input", () => this.#changed());
    this.set(JSON.parse(remembered(SESSION) ?? "{}"));
  }

  /** The settings that differ from the service's defaults, as parameters. */
  get values() {
    const fields = [...this.#fields.values()].filter((field) => !field.row.hidden);
    return Object.assign({}, ...fields.map((field) => field.read()));
  }

  /** The model that the settings choose, as GET /v1/models lists it. */
  get model() {
    return this.modelOf(this.values);
  }

  modelOf(settings) {
    const name = settings.model ?? this.#models.default;
    return this.#models.models.find((model) => model.name === name) ?? { name, scale: null };
  }

  /** Applies a newer list of models: some facts are known only after a model has been loaded. */
  learn(models) {
    this.#models = models;
    this.#changed();
  }

  set(values) {
    this.#fields.get("model").write(values);
    this.#sync(); // the options of other fields depend on the model
    for (const field of this.#fields.values()) field.write(values);
    this.#changed();
  }

  /** Moves the fidelity slider by some steps, if the model has one. */
  turnFidelity(steps) {
    const { row, input } = this.#fields.get("fidelity") ?? {};
    if (!row || row.hidden) return;
    input.value = Number(input.value) + steps * FIDELITY_STEP;
    this.#changed();
  }

  has(name) {
    return this.#fields.has(name);
  }

  /** Shows a field that may be folded away, and moves the focus to it. */
  focusOn(name) {
    const { row } = this.#fields.get(name);
    const fold = row.closest("details");
    if (fold) fold.open = true;
    row.querySelector("select, input").focus();
  }

  /** Shows the size of the answer for the selected picture. */
  showResult(sentence) {
    this.#fields.get("size").result.textContent = sentence;
  }

  #changed() {
    this.#sync();
    remember(SESSION, JSON.stringify(this.values));
    this.dispatchEvent(new Event("change"));
  }

  /** Shows the fields that apply with the values of the others. */
  #sync() {
    const { format } = this.values;
    this.#fields.get("model").tell(this.model);
    this.#fields.get("size").tell(this.model);
    this.#fields.get("fidelity")?.tell(this.model);
    for (const [name, visible] of [
      ["quality", WITH_QUALITY.includes(format)],
      ["compression", !WITH_QUALITY.includes(format) || format === "same"],
    ]) {
      if (this.#fields.has(name)) show(this.#fields.get(name).row, visible);
    }
  }

  /** Makers of fields, by the name of a parameter or by its kind. */
  #makers() {
    return {
      model: () => modelField(this.#models),
      size: (_, parameters) => sizeField(parameters),
      fidelity: fidelityField,
      format: (parameter) => choiceField({ ...parameter, options: parameter.options.filter(offers(this.#models)) }),
      choice: choiceField,
      flag: flagField,
      number: inputField,
      text: inputField,
    };
  }
}

function labelled(name, control, { description = "" } = {}, ...more) {
  control.id = `setting-${name}`;
  const hint = element("p", { className: "hint", id: `hint-${name}` }, textOr(`${name}.hint`, description));
  control.setAttribute("aria-describedby", hint.id);
  const label = element("label", { htmlFor: control.id }, textOr(`${name}.label`, name.replaceAll("_", " ")));
  return { row: element("div", { className: "field" }, label, control, ...more, hint), hint };
}

function modelField({ models, default: initial }) {
  const options = models.map(({ name, state }) => option(name, modelLabel(name), state === "failed"));
  const input = element("select", {}, ...options);
  const { row, hint } = labelled("model", input);
  const facts = element("p", { className: "hint facts" });
  row.append(facts);
  return {
    row,
    read: () => (["", initial].includes(input.value) ? {} : { model: input.value }),
    write: ({ model }) => choose(input, model, initial),
    tell: (model) => {
      hint.textContent = textOr(`model.hint.${model.name}`, "");
      show(hint, hint.textContent !== "");
      facts.textContent = factsOf(model).join(" · ");
    },
  };
}

function modelLabel(name) {
  const label = textOr(`model.name.${name}`, "");
  return label ? text("model.named", { label, name }) : name;
}

function factsOf({ scale, licence, state, reason }) {
  const facts = [];
  if (scale) facts.push(text("model.scale", { scale }));
  if (licence) facts.push(text("model.licence", { licence }));
  if (state && state !== "ready") facts.push(text(`model.state.${state}`, { reason }));
  return facts;
}

function fidelityField() {
  const input = element("input", { type: "range", min: 0, max: 1, step: FIDELITY_STEP });
  const ends = element("div", { className: "ends" }, ...["low", "high"].map((end) => element("span", {}, text(`fidelity.${end}`))));
  const { row } = labelled("fidelity", input, {}, ends);
  let own = 0; // fidelity of the model itself
  let pair = "";
  return {
    row,
    input,
    read: () => (Number(input.value) === own ? {} : { fidelity: Number(input.value) }),
    write: ({ fidelity }) => (input.value = fidelity ?? own),
    tell: ({ name, fidelity }) => {
      show(row, Boolean(fidelity));
      if (!fidelity || name === pair) return;
      const stood = Number(input.value) === own;
      own = name === fidelity.psnr ? 1 : 0;
      if (stood) input.value = own;
      pair = name;
    },
  };
}

/** True for formats that the service can encode, which depends on its installed packages. */
function offers({ formats }) {
  return (value) => value === "same" || (formats?.includes(value) ?? true);
}

function choiceField({ name, options, initial, description }) {
  // Without a format the service chooses the first one, because the page accepts any.
  const first = initial ?? (name === "format" ? options[0] : "");
  const choices = options.map((value) => option(value, textOr(`${name}.${value}`, value)));
  if (first === "") choices.unshift(option("", text("settings.default")));
  const input = element("select", {}, ...choices);
  const { row } = labelled(name, input, { description });
  return {
    row,
    read: () => (input.value === first ? {} : { [name]: input.value }),
    write: (values) => choose(input, values[name], first),
  };
}

function flagField({ name, initial, description }) {
  const input = element("input", { type: "checkbox" });
  const { row } = labelled(name, input, { description });
  row.classList.add("flag");
  return {
    row,
    read: () => (input.checked === Boolean(initial) ? {} : { [name]: input.checked }),
    write: (values) => (input.checked = values[name] ?? Boolean(initial)),
  };
}

function inputField({ name, kind, min, max, whole, initial, description }) {
  const input = element("input", { type: kind === "number" ? "number" : "text", step: whole ? 1 : "any" });
  if (min !== undefined) input.min = min;
  if (max !== undefined) input.max = max;
  input.placeholder = initial ?? text("settings.default");
  const { row } = labelled(name, input, { description }, checked(input));
  const valueOf = () => (kind === "number" ? input.valueAsNumber : input.value);
  return {
    row,
    read: () => (input.value !== "" && input.validity.valid ? { [name]: valueOf() } : {}),
    write: (values) => {
      input.value = values[name] ?? "";
      input.dispatchEvent(new Event("input")); // validates it
    },
  };
}
