// Tries each path that it is told, to read and to write, and looks for a word wherever else it may read. Prints a line
// `GOT …` for everything that went well for it, and at last how much it tried.
const fs = require('fs');
const path = require('path');

const { paths, hidden, shared } = JSON.parse(fs.readFileSync(path.join(__dirname, 'paths.json'), 'utf8'));
// Backwards, or it would find itself.
const word = Buffer.from([...hidden].reverse().join(''));
let tried = 0;

function attempt(what, doing) {
  tried += 1;
  try {
    if (doing() !== false) console.log(`GOT ${process.argv[2]}: ${what}`);
  } catch {
    // As it should be.
  }
}

// What is its own it can read and change, or the attempts prove nothing.
for (const place of [...paths, path.join(__dirname, 'planted-path.txt')]) {
  if (!shared.some((folder) => place.startsWith(folder))) {
    attempt(`sees ${place}`, () => fs.lstatSync(place));
    attempt(`reads ${place}`, () => fs.readFileSync(place));
    attempt(`lists ${place}`, () => fs.readdirSync(place));
    attempt(`links to ${place}`, () => fs.linkSync(place, path.join(__dirname, `link-${tried}`)));
  }
  attempt(`adds to ${place}`, () => fs.writeFileSync(place, 'x', { flag: fs.constants.O_WRONLY | fs.constants.O_APPEND }));
  attempt(`puts a file into ${place}`, () => fs.writeFileSync(path.join(place, 'put-there'), 'x'));
  attempt(`changes the mode of ${place}`, () => fs.chmodSync(place, 0o777));
  attempt(`changes the times of ${place}`, () => fs.utimesSync(place, 1, 1));
  attempt(`renames ${place}`, () => fs.renameSync(place, `${place}.moved`));
  attempt(`removes ${place}`, () => fs.rmSync(place, { recursive: true }));
}

const system = ['/proc', '/sys', '/dev', '/usr', '/lib', '/lib64', '/bin', '/sbin'];
function walk(folder) {
  let entries = [];
  try {
    entries = fs.readdirSync(folder, { withFileTypes: true });
  } catch {
    return;
  }
  for (const entry of entries) {
    const place = path.join(folder, entry.name);
    if (system.includes(place)) continue;
    if (entry.isDirectory()) walk(place);
    else attempt(`finds the word in ${place}`, () => entry.isFile() && fs.readFileSync(place).includes(word));
  }
}
walk('/');
console.log(`TRIED ${tried}`);
