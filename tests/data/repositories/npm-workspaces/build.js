// Builds a package of the workspace; fails unless what it needs was built before it.
const fs = require('fs');
const { createRequire } = require('module');

const needed = process.argv.slice(2).map(createRequire(`${process.cwd()}/package.json`));
fs.mkdirSync('dist', { recursive: true });
fs.writeFileSync('dist/index.js', `module.exports = ${JSON.stringify(needed)};\n`);
