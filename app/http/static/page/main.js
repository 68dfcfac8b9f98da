// Joins the parts of the page.

import { Api } from "./api.js";
import { Detail } from "./detail.js";
import { byId, show } from "./elements.js";
import { find, forget, forgetOld, isKept, keep } from "./files.js";
import { SettingsForm } from "./form.js";
import { Gestures } from "./gestures.js";
import { imageOf, release, thumbnailOf } from "./images.js";
import { takeFiles } from "./intake.js";
import { askForKey, prepareKeyDialog } from "./key_dialog.js";
import { Lens } from "./lens.js";
import { drawProgress, drawSummary, List } from "./list.js";
import { parametersOf, same } from "./parameters.js";
import { isActive, isRefused, latestRun, Pictures } from "./pictures.js";
import { reasonOf } from "./problems.js";
import { Removal } from "./removal.js";
import { Results } from "./results.js";
import { saveActions } from "./save_actions.js";
import { Sender } from "./sending.js";
import { sizeOfAnswer, sizeText } from "./sizes.js";
import { keepToOneTab } from "./tab.js";
import { text, translate } from "./texts.js";
import { tryOut } from "./try_out.js";
import { Viewer } from "./viewer.js";
import { Watcher } from "./watching.js";

const THUMB_PX = 96;
const STARTING_S = 1;

const api = new Api(askForKey);
const pictures = new Pictures();
const results = new Results(api, pictures);
let form = null; // until the parameters of the service are known
let unsaid = 0; // number of runs whose end was not announced yet
let appearing = Promise.resolve(); // one picture at a time, because each is decoded

const modelOf = (settings) => form?.modelOf(settings) ?? { scale: null };
const sizeOf = (picture, settings) => sizeOfAnswer(picture, settings, modelOf(settings).scale);

translate(document);
prepareKeyDialog();
forgetOld();
takeFiles(add);

const offer = offered();
const sender = new Sender(api, pictures, offer.then(serviceOf));
const removal = new Removal(pictures, sender, { forget: forgetFiles, start });
const list = new List(pictures, {
  appear: (picture) => (appearing = appearing.then(() => appear(picture)).catch(() => {})),
  cancel: (picture) => (picture.runs.length ? sender.cancel(latestRun(picture)) : removeFromList(picture)),
  remove: removeFromList,
  retry,
  showFrames: (picture) => {
    pictures.select(picture); // the one that "Upscale again" is for
    form.focusOn("frames");
  },
  offersFrames: () => form?.has("frames") ?? false,
  sizes,
});
const viewer = new Viewer(results, sizeOf);
new Detail(viewer);
const gestures = new Gestures(viewer);
const lens = new Lens(api, viewer);
saveActions({ api, results, viewer, pictures, sizeOf, modelOf });
new Watcher(api, pictures);

pictures.addEventListener("change", draw);
pictures.addEventListener("end", ({ detail: run }) => end(run));
addEventListener("beforeunload", (event) => {
  if (pictures.all.some(isLostByReload)) event.preventDefault(); // asks the user
});
byId("clear").onclick = () => {
  removal.remove([...pictures.all]);
  list.focusAt(0);
};
byId("again").onclick = () => again(pictures.selected, form.values);
byId("again-all").onclick = () => usable().forEach((picture) => again(picture, form.values));
byId("reset").onclick = () => form.set({});
byId("change-key").onclick = () => api.changeKey();
api.addEventListener("key", () => pictures.all.filter(lacksKey).forEach(retry));
setInterval(() => {
  list.drawActive();
  drawProgress(pictures.selected);
}, 1000);

list.draw();
draw();
begin();
keepToOneTab(() => pictures.leave());

/** Requests the models and parameters of the service; retries while it is starting or the key is refused. */
async function offered() {
  for (;;) {
    try {
      return await Promise.all([api.json("openapi.json"), api.json("v1/models")]);
    } catch (problem) {
      byId("starting").textContent = problem.isTemporary ? text("settings.starting") : reasonOf(problem);
      show(byId("starting"), true);
      const needsKey = [401, 403].includes(problem.status);
      if (!problem.isTemporary && !needsKey) throw problem;
      await new Promise((resolve) => {
        if (needsKey) api.addEventListener("key", resolve, { once: true });
        else setTimeout(resolve, 1000 * STARTING_S);
      });
    }
  }
}

/** Returns whether the service takes jobs, and the largest file that it takes. */
async function serviceOf([, models]) {
  const takesJobs = await api.fetch("v1/jobs?limit=1").then(() => true, (problem) => problem.status !== 501);
  return { takesJobs, maxBytes: models.max_upload_bytes };
}

async function begin() {
  const [openapi, models] = await offer;
  show(byId("starting"), false);
  show(byId("settings-title").parentElement, true);
  show(byId("change-key"), Boolean(api.key));
  form = new SettingsForm(byId("form"), parametersOf(openapi), models);
  form.addEventListener("change", draw);
  tryOut({ form, viewer, lens, gestures });
  start();
  draw();
  sender.start();
}

/** Begins the first run of each picture; before the service has started, this waits for it. */
function start() {
  for (const picture of pictures.all) if (form && !picture.runs.length) again(picture, form.values);
}

function add(files) {
  const added = files.map((file) => pictures.add(file));
  if (!added.length) return;
  added.forEach((picture, index) => keep(picture.id, files[index]));
  const hadFocus = byId("welcome").contains(document.activeElement);
  pictures.select(added[0]);
  if (hadFocus) list.focusOn(added[0]); // since the welcome is hidden now
  start();
}

function again(picture, settings) {
  pictures.begin(picture, settings, modelOf(settings).name);
}

function retry(picture) {
  again(picture, latestRun(picture).settings);
}

function lacksKey(picture) {
  const run = latestRun(picture);
  return run?.state === "failed" && run.problem?.status === 401;
}

/** The pictures that other settings can be tried on. */
function usable() {
  return pictures.all.filter((picture) => !isRefused(picture));
}

function removeFromList(picture) {
  const index = pictures.all.indexOf(picture);
  removal.remove([picture]);
  list.focusAt(index);
}

function forgetFiles(picture) {
  for (const { id } of [picture, ...picture.runs]) forget(id);
}

function isLostByReload(picture) {
  return !isKept(picture.id) && (!picture.runs.length || isActive(latestRun(picture)));
}

/** Reads the size of a picture, and makes its thumbnail. */
async function appear(picture) {
  const file = await find(picture.id);
  if (!file) pictures.describe(picture, { isGone: true });
  const image = file && (await imageOf(file));
  if (!image) return list.thumbnail(picture, picture.name.split(".").at(-1).slice(0, 4).toUpperCase());
  pictures.describe(picture, { width: image.naturalWidth, height: image.naturalHeight });
  const canvas = await thumbnailOf(file, image, THUMB_PX);
  release(image);
  if (canvas) list.thumbnail(picture, canvas);
}

function sizes(picture, run) {
  if (!picture.width) return { from: "", to: "" };
  const to = run?.state === "failed" ? null : sizeOf(picture, run?.settings ?? {});
  return { from: sizeText(picture), to: to ? sizeText(to) : "" };
}

function draw() {
  const { selected } = pictures;
  document.body.toggleAttribute("data-empty", pictures.all.length === 0);
  byId("skip").href = pictures.all.length ? "#pictures" : "#welcome";
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
  const all = usable();
  const changed = all.filter(differs);
  show(byId("apply"), changed.length > 0);
  show(byId("again"), changed.includes(selected));
  show(byId("again-all"), all.length > 1 && changed.length === all.length);
  byId("again-all").textContent = text("settings.again_all", { count: all.length });
}

/** Announces the end of a run; updates its model, which may have been loaded for it. */
function end(run) {
  announce(run);
  const isNews = run.state === "done" && form && modelOf(run.settings).state !== "ready";
  if (isNews) api.json("v1/models").then(learn, () => {});
}

/** Announces the end of the last run to screen readers: by its name if it is alone, else by numbers. */
function announce(run) {
  if (run.state !== "cancelled") unsaid++; // the user knows of a cancelled one
  if (!unsaid || pictures.runs.some(isActive)) return;
  const { name } = pictures.pictureOf(run);
  const isAlone = unsaid === 1 && run.state !== "cancelled";
  const alone = () => text(`said.${run.state}`, { name, reason: reasonOf(run.problem) });
  byId("said").textContent = isAlone ? alone() : byId("summary").textContent;
  unsaid = 0;
}

function learn(models) {
  form.learn(models);
  list.draw(); // with sizes
}
