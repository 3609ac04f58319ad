const { compiledFor } = require('./build/Release/addon.node');

console.log(`compiled for ${compiledFor}`);
if (compiledFor !== process.version) process.exit(1);
