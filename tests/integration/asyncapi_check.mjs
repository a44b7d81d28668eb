// Parses an AsyncAPI document with the official parser; prints each finding, exits 1 if the document is not valid.
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[2], "utf8"));
for (const found of diagnostics) {
  console.log(found.severity, found.code, found.path.join("."), found.message);
}
process.exit(document ? 0 : 1);
