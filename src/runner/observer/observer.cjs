// Loaded into every node of a step, before its own program. `settings` stands above this line.
//
// It gives a webpack 5 or rspack compiler a persistent cache where its configuration has none, and tells in one line
// what each compiler found. It changes nothing else, and where anything is not as expected it does nothing at all.
//
// Each bundler calls `NodeEnvironmentPlugin.apply(compiler)` after it has brought the options into one form and
// before it fills in its defaults (webpack: lib/webpack.js, `createCompiler`; rspack: the function of that name). There
// an option that the repository has set can still be told from one that it has not.
"use strict";

const Module = require("module");

const attached = Symbol.for("hookmill.observer");
/** The names that caches of this process have taken. */
const names = new Map();

/** Runs `work`; what it throws is nobody's business. */
const quietly = (work) => {
  try {
    return work();
  } catch {
    return undefined;
  }
};

// What is loaded is looked at by its file's name alone, so that a process without a bundler pays next to nothing.
// `Module.prototype.load` is also the way of a CommonJS file that an ES module imports.
const load = Module.prototype.load;
Module.prototype.load = function (filename) {
  const answer = load.apply(this, arguments);
  if (typeof filename === "string") seen(this, filename);
  return answer;
};

const program = String(process.argv[1]);
if (program.includes("yarn")) follow();
if (/\/npm(-cli\.js)?$/.test(program)) quietly(() => silenceOldNpm(program));
if (process.features.require_module && !program.includes("/node_modules/")) quietly(() => awaitedRspack(program));

/**
 * A program of the repository's own that imports rspack 2 may call it in the same breath, before anything here could
 * learn of it: then it is loaded first, which is the same module for the program, in every node that rspack 2 runs on.
 */
function awaitedRspack(program) {
  const fs = require("fs");
  if (!/\.[cm]?[jt]s$/.test(program) || fs.statSync(program).size > 1 << 20) return;
  if (!fs.readFileSync(program, "utf8").includes("@rspack/core")) return;
  // As if from a package: node warns of a require() of an ES module only elsewhere.
  Module.createRequire(require("path").resolve(program, "../node_modules/_"))("@rspack/core");
}

/** npm before 7 tells in each script's log that `node` on PATH is not the one it runs on, unless it is told this. */
function silenceOldNpm(program) {
  const file = require("fs").realpathSync(program);
  const { version } = require(require("path").join(file, "../../package.json"));
  const name = "npm_config_scripts_prepend_node_path";
  if (parseInt(version, 10) < 7 && !(name in process.env)) process.env[name] = "false";
}

function seen(module, filename) {
  if (filename.endsWith("/lib/node/NodeEnvironmentPlugin.js")) {
    attach(module.exports, "webpack");
  } else if (filename.endsWith("/cross-spawn/index.js")) {
    follow();
  } else if (filename.endsWith("/compiled/webpack/bundle5.js") && typeof module.exports === "function") {
    // Next's own copy: a function that answers with its webpack.
    const bundle = module.exports;
    module.exports = function () {
      const answer = bundle.apply(this, arguments);
      quietly(() => attach(answer.webpack.node.NodeEnvironmentPlugin, "webpack"));
      return answer;
    };
  } else if (filename.endsWith("/dist/index.js") && filename.includes("rspack")) {
    // rspack 1, and rspack 2 by require() of an ES module.
    quietly(() => attach(module.exports.node.NodeEnvironmentPlugin, "rspack"));
  } else if (filename.endsWith("/binding.js") && filename.includes("rspack")) {
    // rspack 2 is an ES module, which no loader of CommonJS sees; its binding is CommonJS and belongs to it.
    quietly(() => {
      const core = module.parent && module.parent.filename;
      if (!core || !core.endsWith("/dist/index.js")) return;
      const { pathToFileURL } = require("url");
      import(pathToFileURL(core).href).then(
        (bundler) => quietly(() => attach(bundler.node.NodeEnvironmentPlugin, "rspack")),
        () => {},
      );
    });
  }
}

/**
 * Programs that start others with an environment of their own: cross-env and its kin (by cross-spawn) replace
 * NODE_OPTIONS, and yarn puts a `node` before ours on PATH that is the one it runs on.
 */
function follow() {
  quietly(() => {
    const { ChildProcess } = require("child_process");
    if (ChildProcess.prototype[attached]) return;
    const spawn = ChildProcess.prototype.spawn;
    Object.defineProperty(ChildProcess.prototype, attached, { value: true });
    ChildProcess.prototype.spawn = function (options) {
      quietly(() => restore(options.envPairs));
      return spawn.apply(this, arguments);
    };
  });
}

/** Puts back into a child's environment, a list of `NAME=value`, what keeps this file loaded. */
function restore(pairs) {
  const at = (name) => pairs.findIndex((pair) => pair.startsWith(`${name}=`));
  const options = at("NODE_OPTIONS");
  if (options !== -1 && !pairs[options].includes(settings.preload) && !pairs[options].includes(settings.nodeOptions)) {
    pairs[options] = `NODE_OPTIONS=${settings.nodeOptions} ${pairs[options].slice("NODE_OPTIONS=".length)}`;
  }
  const path = at("PATH");
  if (path !== -1 && pairs[path].split(/[=:]/)[1] !== settings.bin && pairs[path].includes(`:${settings.bin}`)) {
    pairs[path] = `PATH=${settings.bin}:${pairs[path].slice("PATH=".length)}`;
  }
}

function attach(NodeEnvironmentPlugin, bundler) {
  quietly(() => {
    const prototype = NodeEnvironmentPlugin.prototype;
    if (Object.prototype.hasOwnProperty.call(prototype, attached)) return;
    const apply = prototype.apply;
    Object.defineProperty(prototype, attached, { value: true });
    prototype.apply = function (compiler) {
      const answer = apply.apply(this, arguments);
      quietly(() => observe(compiler, bundler));
      return answer;
    };
  });
}

function observe(compiler, bundler) {
  if (!compiler || !compiler.options || !compiler.hooks || compiler[attached]) return;
  Object.defineProperty(compiler, attached, { value: true });
  const known = compiler[bundler] || compiler.webpack;
  const version = String((known && (known.rspackVersion || known.version)) || "4");
  const major = parseInt(version, 10);
  const ours = !watching(compiler.options) && cache(compiler, bundler, major, version);
  const whose = ours ? "ours" : persistent(compiler.options) ? "repository's" : "none";
  tell(compiler, bundler, version, whose);
}

/** A compiler that stays keeps what it knows in memory, as its repository is used to. */
const watching = (options) => options.watch === true || "WEBPACK_SERVE" in process.env;

function persistent(options) {
  const either = [options.cache, options.experiments && options.experiments.cache];
  return either.some((cache) => cache && (cache.type === "filesystem" || cache.type === "persistent"));
}

/** Gives `compiler` a persistent cache if nobody has spoken of one; answers whether it did. */
function cache(compiler, bundler, major, version) {
  const { options } = compiler;
  if (options.cache !== undefined || changedInPlace() !== false) return false;
  if (bundler === "webpack" && major === 5) return webpack5(compiler, version);
  if (bundler === "rspack" && major === 1) return rspack1(compiler, version);
  if (bundler === "rspack" && major === 2) return rspack2(compiler, version);
  return false;
}

/** Folders of `node_modules` that tools keep for their next run. */
const CACHES = new Set([".cache", ".vite", ".astro"]);

/**
 * Whether a step of this build changed a dependency where it is installed, in this step or before it; `undefined` where
 * that can't be seen. Its version is what it was, and whoever edits a file may set back its time and keep its size: a
 * cache that another build filled would not notice. But it lies in a lower layer of an overlay, so that with the file
 * every folder above it was copied up, and when an inode was made or changed is the kernel's to say (inode(7), `ctime`).
 * Folders that nothing was copied into are therefore not looked into.
 */
function changedInPlace() {
  const fs = require("fs");
  const dependencies = /^(node_modules|bower_components)$/;
  const ready = BigInt(settings.ready);
  // In nanoseconds: what was written in the millisecond before is not new. A node that can't tell them throws here.
  const isNew = (file) => BigInt(fs.lstatSync(file, { bigint: true }).ctimeNs) >= ready;
  const installed = (dir) =>
    fs.readdirSync(dir, { withFileTypes: true }).some((entry) => {
      const { name } = entry;
      // Files with a dot are the managers' own notes, which some write whenever they run.
      if (CACHES.has(name) || (name.startsWith(".") && entry.isFile()) || !isNew(`${dir}/${name}`)) return false;
      return name.startsWith("@") ? installed(`${dir}/${name}`) : true;
    });
  const look = (dir) =>
    fs.readdirSync(dir, { withFileTypes: true }).some((entry) => {
      const path = `${dir}/${entry.name}`;
      if (!entry.isDirectory() || !isNew(path)) return false;
      return dependencies.test(entry.name) ? installed(path) : look(path);
    });
  return quietly(() => look(settings.tree));
}

function webpack5(compiler, version) {
  const { options } = compiler;
  const snapshot = options.snapshot || (options.snapshot = {});
  const { directory, name, digest } = place(compiler, "webpack", version);
  strict(snapshot);
  // webpack's default in development looks at times alone; a checkout may bring the same bytes with another time.
  for (const kind of ["module", "resolve"]) {
    if (snapshot[kind] === undefined) snapshot[kind] = { timestamp: true, hash: true };
  }
  const wanted = {
    type: "filesystem",
    store: "pack",
    cacheDirectory: directory,
    name,
    version: [settings.version, process.version, version, digest].join("|"),
    buildDependencies: { hookmill: dependencies() },
    compression: false,
    idleTimeout: 0,
    idleTimeoutForInitialStore: 0,
    idleTimeoutAfterLargeChanges: 0,
    maxAge: settings.maxAge,
    allowCollectingMemory: false,
  };
  const hash = options.output && options.output.hashFunction;
  // The digest of old versions, md4, is not in every node; a repository that names another needs that here too.
  if (typeof hash === "string") wanted.hashAlgorithm = hash;
  // How versions write it in the form that they go on with differs; each knows its own.
  options.cache = compiler.webpack.config.getNormalizedWebpackOptions({ cache: wanted }).cache;
  quiet(compiler);
  storedBeforeItsCallback(compiler);
  return true;
}

function rspack2(compiler, version) {
  const { options } = compiler;
  const { directory, name, digest } = place(compiler, "rspack", version);
  const snapshot = options.snapshot || (options.snapshot = {});
  strict(snapshot);
  const wanted = {
    type: "persistent",
    name,
    version: [settings.version, process.version, version, digest].join("|"),
    buildDependencies: dependencies(),
    maxAge: settings.maxAge / 1000,
    storage: { type: "filesystem", directory },
  };
  options.cache = compiler.rspack.config.getNormalizedRspackOptions({ cache: wanted }).cache;
  closedAtTheEnd(compiler);
  return true;
}

function rspack1(compiler, version) {
  const { options } = compiler;
  const experiments = options.experiments || (options.experiments = {});
  if (experiments.cache !== undefined) return false;
  const { directory, name, digest } = place(compiler, "rspack", version);
  const managed = settings.managed ? [/[\\/]node_modules[\\/][^.]/] : [];
  options.cache = true;
  experiments.cache = {
    type: "persistent",
    version: [settings.version, process.version, version, digest].join("|"),
    buildDependencies: dependencies(),
    snapshot: { immutablePaths: [], unmanagedPaths: [], managedPaths: managed },
    storage: { type: "filesystem", directory: `${directory}/${name}` },
  };
  closedAtTheEnd(compiler);
  return true;
}

/** An edit in place in node_modules is seen only where nothing is taken for managed. */
function strict(snapshot) {
  if (settings.managed) return;
  if (snapshot.managedPaths === undefined) snapshot.managedPaths = [];
  if (snapshot.immutablePaths === undefined) snapshot.immutablePaths = [];
}

/** A bundler takes a file that is not there for one that it can't trust, and keeps nothing. */
const dependencies = () => settings.buildDependencies.filter((file) => require("fs").existsSync(file));

/**
 * Where a compiler's cache is. Compilers that a repository tells apart have caches apart, since what a module became
 * under one configuration is not what it becomes under another; and a cache is void when its configuration has changed,
 * also where that comes from a variable and no file of it has changed.
 */
function place(compiler, bundler, version) {
  const { options } = compiler;
  const { createHash } = require("crypto");
  const output = options.output || {};
  const identity = [options.context, options.target, options.entry, output.path, process.argv.slice(2)];
  const short = createHash("sha256").update(shown(identity, true)).digest("hex").slice(0, 12);
  const plain = `${options.name || "main"}-${options.mode || "none"}`.replace(/[^\w.-]/g, "_").slice(0, 80);
  const stem = `${plain}-${short}`;
  const index = names.get(stem) || 0;
  names.set(stem, index + 1);
  const { module, resolve, resolveLoader, externals, plugins, ...rest } = options;
  const rules = (module && module.rules) || [];
  // What decides about modules counts as it is; of the rest, what is new in every build is left out.
  const exact = [...rules, { ...module, rules: [] }, resolve, resolveLoader, externals, environment()];
  const steady = [...(plugins || []), ...Object.values(rest)];
  const whole = createHash("sha256");
  exact.forEach((part) => whole.update(`${shown(part, false)}\n`));
  steady.forEach((part) => whole.update(`${shown(part, true)}\n`));
  return {
    directory: `${settings.cacheDir}/${bundler}-${parseInt(version, 10)}`,
    name: index ? `${stem}-${index}` : stem,
    digest: whole.digest("hex").slice(0, 32),
  };
}

/** The variables by which loaders decide; no others, for the rest may hold secrets. */
function environment() {
  const known = /^(NODE_ENV|BABEL_ENV|BROWSERSLIST(_\w+)?|(REACT_APP|VUE_APP|NEXT_PUBLIC|NUXT_PUBLIC|PUBLIC|STORYBOOK)_\w*)$/;
  const found = Object.keys(process.env).filter((name) => known.test(name));
  return found.sort().map((name) => [name, process.env[name]]);
}

/** webpack follows the values of these by itself, or they work on finished assets. */
const FOLLOWED = new Set(["DefinePlugin", "EnvironmentPlugin", "BannerPlugin"]);

/**
 * `value` as text: functions by their source, instances by their class and fields. With `steady`, what differs from
 * build to build although nothing was changed (the commit, the time) is left out.
 */
function shown(value, steady) {
  let budget = 20000;
  const above = new Set();
  const commit = process.env.CI_BUILT_SHA || process.env.CI_COMMIT_SHA;
  const text = (string) => {
    if (!steady) return string;
    return string
      .replace(/\b[0-9a-f]{7,40}\b/g, (word) => (commit && commit.startsWith(word) ? "" : word))
      .replace(/\d{4}-\d\d-\d\d(T[\d:.]+Z?)?/g, "");
  };
  const show = (value, depth) => {
    if (budget-- <= 0 || depth > 12) return '"…"';
    if (typeof value === "string") return JSON.stringify(text(value));
    if (typeof value === "number" && steady && Math.abs(value - Date.now()) < 864e5) return '"now"';
    if (typeof value === "function") {
      const source = Function.prototype.toString.call(value);
      return JSON.stringify(`${value.name}:${source.length}:${text(source.slice(0, 10000))}`);
    }
    if (value === null || typeof value !== "object") return String(value);
    if (value instanceof RegExp) return String(value);
    if (value instanceof Date) return steady ? '"date"' : String(value.getTime());
    if (above.has(value)) return '"again"';
    above.add(value);
    const name = (value.constructor && value.constructor.name) || "";
    let parts;
    if (Array.isArray(value)) {
      parts = value.map((part) => show(part, depth + 1));
    } else if (value instanceof Map || value instanceof Set) {
      parts = Array.from(value, (part) => show(part, depth + 1));
    } else if (FOLLOWED.has(name)) {
      parts = [];
    } else {
      // An accessor is not asked: it may warn, load or change something.
      const fields = Object.keys(value).map((key) => [key, Object.getOwnPropertyDescriptor(value, key)]);
      const plain = fields.filter(([, field]) => field && "value" in field);
      parts = plain.map(([key, field]) => `${JSON.stringify(key)}:${show(field.value, depth + 1)}`);
    }
    above.delete(value);
    return `${name}{${parts.join(",")}}`;
  };
  return show(value, 0);
}

/** What webpack's cache says of itself (that it stores big strings) would not be there without us. */
function quiet(compiler) {
  const { infrastructureLog } = compiler.hooks;
  if (!infrastructureLog) return;
  infrastructureLog.tap({ name: "Hookmill", stage: -1e6 }, (origin) =>
    typeof origin === "string" && /^(webpack\.cache\.|IdleFileCachePlugin)/.test(origin) ? true : undefined,
  );
}

/**
 * webpack writes its cache when it is closed, or later, by timers that keep no process alive. A script that calls
 * `compiler.run` and ends does neither, so the cache is written before it gets its answer.
 */
function storedBeforeItsCallback(compiler) {
  const run = compiler.run;
  const stored = function (callback) {
    return run.call(this, function () {
      const answer = () => callback && callback.apply(this, arguments);
      let answered = false;
      const once = () => {
        if (answered) return;
        answered = true;
        answer();
      };
      if (quietly(() => (compiler.cache.shutdown(() => process.nextTick(once)), true)) !== true) once();
    });
  };
  Object.defineProperty(compiler, "run", { value: stored, configurable: true, writable: true });
}

/** rspack writes its cache in the background and waits for that when it is closed, which not every script does. */
function closedAtTheEnd(compiler) {
  let closed = false;
  const close = compiler.close;
  const closing = function () {
    closed = true;
    return close.apply(this, arguments);
  };
  Object.defineProperty(compiler, "close", { value: closing, configurable: true, writable: true });
  process.once("beforeExit", () => {
    if (!closed) quietly(() => compiler.close(() => {}));
  });
}

/** One line for each run of a compiler, with what was built and what came from a cache. */
function tell(compiler, bundler, version, cache) {
  let built = 0;
  let cached = 0;
  if (bundler === "webpack") {
    compiler.hooks.compilation.tap("Hookmill", (compilation) => {
      compilation.hooks.succeedModule.tap("Hookmill", () => void built++);
      const { stillValidModule } = compilation.hooks;
      if (stillValidModule) stillValidModule.tap("Hookmill", () => void cached++);
    });
  }
  compiler.hooks.done.tap("Hookmill", (stats) => {
    quietly(() => {
      if (bundler === "rspack") {
        const { compilation } = stats;
        built = compilation.builtModules.size;
        cached = Math.max(0, compilation.modules.size - built);
      }
      const line = JSON.stringify({ bundler, version, cache, built, cached });
      require("fs").appendFileSync(settings.observed, `${line}\n`);
      built = cached = 0;
    });
  });
}
