// Shows the OpenAPI document. Its address is relative, so the page works below any prefix of a proxy.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#viewer",
  deepLinking: true,
  defaultModelsExpandDepth: -1, // the list of all schemas takes seconds to draw, and each is shown where it is used
  validatorUrl: null, // by default the document is sent to a validator elsewhere
});
