// Errors in words.

import { text, textOr } from "./texts.js";

/** Returns a problem, or any error, in the page's own words, if it has some, or in those of the service. */
export function reasonOf(problem) {
  if (!problem) return "";
  const own = textOr(`problem.${kindOf(problem)}`, "");
  return own || [problem.title, problem.detail ?? problem.message].filter(Boolean).join(": ");
}

/** Returns the text for a request that is made again after some seconds. */
export function waitText(problem, seconds) {
  if (problem.isOutOfReach) return text("state.offline");
  return textOr(`wait.${kindOf(problem)}`, text("state.busy", { seconds }), { seconds });
}

/** Returns the last word of the type; key-full if the files of a key's jobs have reached its limit. */
function kindOf({ type = "", detail = "" }) {
  const kind = type.split(":").at(-1);
  return kind === "key-limit" && detail.includes("job_bytes=") ? "key-full" : kind;
}
