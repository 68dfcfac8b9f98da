// Joins the parts of the page.

import { Api } from "./api.js";
import { Detail } from "./detail.js";
import { byId, show } from "./elements.js";
import { find, forget, forgetOld, keep } from "./files.js";
import { SettingsForm } from "./form.js";
import { Gestures } from "./gestures.js";
import { imageOf, release, thumbnailOf } from "./images.js";
import { takeFiles } from "./intake.js";
import { askForKey, prepareKeyDialog } from "./key_dialog.js";
import { Lens } from "./lens.js";
import { drawProgress, drawSummary, List } from "./list.js";
import { parametersOf } from "./parameters.js";
import { ENDED, latestRun, Pictures } from "./pictures.js";
import { Results } from "./results.js";
import { saveActions } from "./save_actions.js";
import { Sender } from "./sending.js";
import { sizeOfAnswer, sizeText } from "./sizes.js";
import { text, translate } from "./texts.js";
import { tryOut } from "./try_out.js";
import { Viewer } from "./viewer.js";
import { Watcher } from "./watching.js";

const THUMB_PX = 96;
const STARTING_S = 1;

const api = new Api(askForKey);
const pictures = new Pictures();
const results = new Results(api);
let form = null; // until the service has said what it offers

const modelOf = (settings) => form?.modelOf(settings) ?? { scale: 0 };
const sizeOf = (picture, settings) => sizeOfAnswer(picture, settings, modelOf(settings).scale);

translate(document);
prepareKeyDialog();
forgetOld();
takeFiles(add);

const offer = offered();
const takesJobs = offer.then(() => api.fetch("v1/jobs?limit=1")).then(() => true, (problem) => problem.status !== 501);
const sender = new Sender(api, pictures, takesJobs);
const list = new List(pictures, {
  appear,
  cancel: (picture) => (picture.runs.length ? sender.cancel(latestRun(picture)) : remove(picture)),
  remove,
  retry: (picture) => again(picture, latestRun(picture).settings),
  select: (picture) => pictures.select(picture),
  sizes,
});
const viewer = new Viewer(results, sizeOf);
new Detail(viewer);
const gestures = new Gestures(viewer);
const lens = new Lens(api, viewer);
saveActions({ api, results, viewer, pictures, sizeOf, modelOf });
new Watcher(api, pictures);

pictures.addEventListener("change", ({ detail: { run } }) => {
  draw();
  if (run) announce(run);
});
byId("clear").onclick = () => [...pictures.all].forEach(remove);
byId("again").onclick = () => again(pictures.selected, form.values);
byId("again-all").onclick = () => pictures.all.forEach((picture) => again(picture, form.values));
byId("reset").onclick = () => form.set({});
byId("change-key").onclick = () => api.changeKey();

list.draw();
draw();
begin();

/** Asks the service for its models and parameters, as long as it is starting. */
async function offered() {
  for (;;) {
    try {
      return await Promise.all([api.json("openapi.json"), api.json("v1/models")]);
    } catch (problem) {
      const words = problem.isTemporary ? text("settings.starting") : `${problem.title}: ${problem.message}`;
      byId("starting").textContent = words;
      show(byId("starting"), true);
      if (!problem.isTemporary) throw problem;
      await new Promise((resolve) => setTimeout(resolve, 1000 * STARTING_S));
    }
  }
}

async function begin() {
  const [openapi, models] = await offer;
  show(byId("starting"), false);
  show(byId("settings-title").parentElement, true);
  show(byId("change-key"), Boolean(api.key));
  form = new SettingsForm(byId("form"), parametersOf(openapi), models);
  form.addEventListener("change", draw);
  tryOut({ form, viewer, lens, gestures });
  for (const picture of pictures.all) if (!picture.runs.length) again(picture, form.values);
  draw();
  sender.start();
}

async function add(files) {
  const added = files.map((file) => [pictures.add(file), file]);
  if (!added.length) return;
  for (const [picture, file] of added) await keep(picture.id, file);
  pictures.select(added[0][0]);
  if (form) for (const [picture] of added) if (!picture.runs.length) again(picture, form.values);
}

function again(picture, settings) {
  pictures.begin(picture, settings, modelOf(settings).name);
}

async function remove(picture) {
  for (const run of picture.runs) {
    if (run.job || !ENDED.includes(run.state)) sender.forget(run);
    forget(run.id);
  }
  forget(picture.id);
  pictures.remove(picture);
}

/** Finds out how large a picture is, and what it looks like. */
async function appear(picture) {
  const file = await find(picture.id);
  const image = file && (await imageOf(file));
  if (!image) return list.thumbnail(picture, picture.name.split(".").at(-1).slice(0, 4).toUpperCase());
  pictures.describe(picture, { width: image.naturalWidth, height: image.naturalHeight });
  const canvas = await thumbnailOf(file, image, THUMB_PX);
  release(image);
  if (canvas) list.thumbnail(picture, canvas);
}

function sizes(picture, run) {
  if (!picture.width) return { from: "", to: "" };
  const to = sizeOf(picture, run?.settings ?? {});
  return { from: sizeText(picture), to: to ? sizeText(to) : "" };
}

function draw() {
  const { selected } = pictures;
  document.body.toggleAttribute("data-empty", pictures.all.length === 0);
  byId("viewer-name").textContent = selected?.name ?? "";
  viewer.show(selected);
  drawProgress(selected);
  drawSummary(pictures);
  if (form) drawSettings(selected);
}

function drawSettings(selected) {
  const { values } = form;
  const to = selected && sizeOf(selected, values);
  form.showResult(to ? text("size.result", { from: sizeText(selected), to: sizeText(to) }) : "");
  show(byId("reset"), Object.keys(values).length > 0);
  const differs = (picture) => latestRun(picture) && !same(latestRun(picture).settings, values);
  const count = pictures.all.filter(differs).length;
  show(byId("apply"), count > 0);
  show(byId("again"), Boolean(selected && differs(selected)));
  show(byId("again-all"), pictures.all.length > 1 && count === pictures.all.length);
  byId("again-all").textContent = text("settings.again_all", { count });
}

function same(a, b) {
  const sorted = (settings) => JSON.stringify(Object.entries(settings).sort());
  return sorted(a) === sorted(b);
}

const announced = new Set(pictures.runs.filter((run) => ENDED.includes(run.state)).map((run) => run.id));

/** Tells screen readers once how a run has ended. */
function announce(run) {
  if (!["done", "failed"].includes(run.state) || announced.has(run.id)) return;
  announced.add(run.id);
  const { name } = pictures.pictureOf(run);
  byId("said").textContent = text(`said.${run.state}`, { name, reason: run.problem?.detail ?? "" });
}
