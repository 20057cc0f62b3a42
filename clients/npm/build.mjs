// Writes src/schema.ts and src/operations.ts: the types of the API's OpenAPI document, and where each operation goes.
//
//     node build.mjs [DOCUMENT]    by default the committed snapshot, which a test compares with the services
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import openapiTS, { astToString } from "openapi-typescript";

const source = process.argv[2] ?? new URL("../../tests/contract/snapshots/openapi.json", import.meta.url);
const read = JSON.parse(readFileSync(source, "utf8"));
const document = read.merged ?? read;
const names = (parameters, where) => parameters.filter((entry) => entry.in === where).map((entry) => entry.name);

const operations = {};
for (const [path, calls] of Object.entries(document.paths)) {
  for (const [method, { operationId, parameters = [] }] of Object.entries(calls)) {
    const [query, header] = [names(parameters, "query"), names(parameters, "header")];
    operations[operationId] = { method: method.toUpperCase(), path, query, header };
  }
}
rmSync(new URL("dist", import.meta.url), { recursive: true, force: true });
const schema = astToString(await openapiTS(document, { defaultNonNullable: false }));
writeFileSync(new URL("src/schema.ts", import.meta.url), schema);
const table = `export const OPERATIONS = ${JSON.stringify(operations, null, 2)} as const;\n`;
writeFileSync(new URL("src/operations.ts", import.meta.url), table);
