// Shows the OpenAPI document. Its URL is relative, so the page works below any prefix of a proxy.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#viewer",
  deepLinking: true,
  defaultModelsExpandDepth: -1, // drawing the list of all schemas takes seconds, and each is shown where it is used
  validatorUrl: null, // by default the document is sent to an external validator
  plugins: [emptyFields],
  requestInterceptor: withoutEmptyFields,
});

/** Leaves optional fields of forms empty; the viewer would fill in samples such as "string", and send them. */
function emptyFields() {
  const updateJsonSpec = (update) => (openapi) => {
    for (const { schema } of formsOf(openapi)) {
      for (const [name, field] of Object.entries(schema.properties)) {
        if (!schema.required.includes(name)) field.example = "";
      }
    }
    return update(openapi);
  };
  return { statePlugins: { spec: { wrapActions: { updateJsonSpec } } } };
}

function formsOf(openapi) {
  const operations = Object.values(openapi.paths ?? {}).flatMap(Object.values);
  return operations.map((it) => it.requestBody?.content["multipart/form-data"]).filter(Boolean);
}

/** Leaves out empty fields; the viewer would send them as "". */
function withoutEmptyFields(request) {
  if (request.body instanceof FormData) {
    for (const [name, value] of [...request.body]) if (value === "") request.body.delete(name);
  }
  return request;
}
