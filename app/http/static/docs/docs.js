// Shows the OpenAPI document. Its address is relative, so the page works below any prefix of a proxy.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#viewer",
  deepLinking: true,
  validatorUrl: null, // by default the document is sent to a validator elsewhere
});
