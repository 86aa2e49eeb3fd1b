// Ask the AsyncAPI initiative's own parser about documents: a list of texts in, what it finds out.
const { readFileSync } = require("node:fs");
const { Parser } = require("@asyncapi/parser");

async function look(text) {
  const { document, diagnostics } = await new Parser().parse(text);
  const events = document?.channels().get("events");
  const ids = (collection) => collection?.all().map((each) => each.id()) ?? [];
  return {
    found: diagnostics.map(({ message, path, severity }) => ({ message, path, severity })),
    channels: ids(document?.channels()),
    operations: ids(document?.operations()),
    parameters: ids(events?.parameters()),
    events: events?.messages().all().map((message) => message.title()) ?? [],
  };
}

Promise.all(JSON.parse(readFileSync(0, "utf8")).map(look)).then((all) =>
  console.log(JSON.stringify(all)),
);
