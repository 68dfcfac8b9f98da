// Reads the parameters of POST /v1/upscale from the service's OpenAPI document.

/** Parameters for the size of the answer; at most one of them is sent. */
export const SIZES = ["scale", "width", "height", "max_side", "megapixels"];

/** Returns a Map of name to {name, kind, options, min, max, whole, initial, description}. */
export function parametersOf(openapi) {
  const { parameters } = openapi.paths["/v1/upscale"].post;
  return new Map(parameters.filter((it) => it.in === "query").map((it) => [it.name, described(it, openapi)]));
}

/** True if two choices of settings are equal, in any order. */
export function same(a, b) {
  const sorted = (settings) => JSON.stringify(Object.entries(settings).sort());
  return sorted(a) === sorted(b);
}

function described({ name, schema, description = "" }, openapi) {
  const kinds = (schema.anyOf ?? [schema]).map((it) => resolved(it, openapi)).filter((it) => it.type !== "null");
  const type = kinds.find((it) => it.enum) ?? kinds[0];
  return {
    name,
    kind: kindOf(type),
    options: type.enum ?? [],
    min: type.minimum ?? type.exclusiveMinimum,
    max: type.maximum,
    whole: type.type === "integer",
    initial: schema.default ?? null,
    description: description || schema.description || "",
  };
}

function resolved(schema, openapi) {
  const path = schema.$ref?.slice(2).split("/");
  return path ? path.reduce((part, step) => part[step], openapi) : schema;
}

function kindOf(type) {
  if (type.enum) return "choice";
  if (type.type === "boolean") return "flag";
  return type.type === "number" || type.type === "integer" ? "number" : "text";
}
