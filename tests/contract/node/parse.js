// Ask the AsyncAPI initiative's own parser about a document: prints what it finds as JSON.
const { readFileSync } = require("node:fs");
const { Parser } = require("@asyncapi/parser");

new Parser().parse(readFileSync(0, "utf8")).then(({ document, diagnostics }) => {
  const found = diagnostics.map(({ code, message, path, severity }) => ({
    code,
    message,
    path: path.join("."),
    severity,
  }));
  const events = document?.channels().get("events");
  console.log(
    JSON.stringify({
      found,
      channels: document?.channels().all().map((channel) => channel.id()) ?? [],
      operations: document?.operations().all().map((operation) => operation.id()) ?? [],
      events: events?.messages().all().map((message) => message.title()) ?? [],
      parameters: events?.parameters().all().map((parameter) => parameter.id()) ?? [],
    }),
  );
});
