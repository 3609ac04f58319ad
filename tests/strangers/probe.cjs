// What a stranger's code would try: it looks for everything that is not its own, from wherever a repository's code runs,
// and prints one line, `PROBE {"way":…,"tried":…,"found":[…]}`. Required by a file of configuration it does so in a
// process of its own, so that it is done before whoever required it goes on.
//
// `probe.json` beside it says what there is to be found: more than a stranger would know.
'use strict';
const childProcess = require('child_process');
const fs = require('fs');
const net = require('net');
const os = require('os');
const path = require('path');

const known = JSON.parse(fs.readFileSync(path.join(__dirname, 'probe.json'), 'utf8'));
// Written backwards there, so that the file itself is not one of the places.
const secrets = known.secrets.map((secret) => [...secret].reverse().join(''));
const found = new Set();
let tried = 0;

function attempt(kind, action) {
  tried += 1;
  try {
    const what = action();
    for (const one of Array.isArray(what) ? what : [what]) if (one) found.add(`${kind}: ${one}`);
  } catch {
    // Refused, which is what should happen.
  }
}

const holds = (text) => secrets.some((secret) => text.includes(secret));
const run = (program, ...args) => childProcess.spawnSync(program, args, { timeout: 5000, encoding: 'utf8' });

function environment() {
  attempt('environment', () => Object.keys(process.env).filter((name) => holds(process.env[name])));
  // Of the step itself, before a package manager added its own.
  for (const pid of known.first) {
    attempt('environment', () => {
      const names = fs.readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0').filter(Boolean).map((one) => one.split('=')[0]);
      return names.filter((name) => !known.variables.includes(name) && !known.prefixes.some((start) => name.startsWith(start)));
    });
  }
}

function processes() {
  for (const pid of fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    const own = Number(pid) === process.pid;
    for (const file of ['environ', 'cmdline', 'maps']) {
      attempt('process', () => {
        const text = fs.readFileSync(`/proc/${pid}/${file}`, 'latin1');
        return !own && (holds(text) || text.includes(known.config)) && `${file} of ${pid}`;
      });
    }
    attempt('process', () => {
      const name = fs.readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
      return name === 'hookmill' && `${name} is in sight`;
    });
    attempt('descriptor', () => fs.readdirSync(`/proc/${pid}/fd`).map((fd) => {
      const target = fs.readlinkSync(`/proc/${pid}/fd/${fd}`);
      return target.startsWith(known.dir) && !ours(target) && `${target} of ${pid}`;
    }));
  }
  attempt('agent', () => fs.openSync(`/proc/${known.agent}/mem`, 'r') && 'its memory');
  attempt('agent', () => fs.readdirSync(`/proc/${known.agent}/fd`) && 'its descriptors');
  attempt('agent', () => {
    process.kill(known.agent, 0);
    return fs.readFileSync(`/proc/${known.agent}/comm`, 'utf8').trim() === 'hookmill' && 'it takes signals';
  });
}

/** Parts of the data folder that a step is given, to read. */
const ours = (file) => known.given.some((folder) => file.startsWith(folder));

function walk(folder, visit, left = { count: 20000 }) {
  for (const entry of fs.readdirSync(folder, { withFileTypes: true })) {
    if (left.count-- <= 0) return;
    const file = path.join(folder, entry.name);
    if (ours(file)) continue;
    visit(file, entry);
    if (entry.isDirectory()) {
      try {
        walk(file, visit, left);
      } catch {
        // Not for us.
      }
    }
  }
}

function files() {
  for (const file of [
    '/etc/shadow', '/etc/gshadow', '/etc/machine-id', '/etc/fstab', '/etc/sudoers', '/etc/crontab', '/etc/environment',
    '/proc/kcore', '/proc/kmsg', known.config, known.log, known.bait,
  ]) {
    // Opened alone: some of them have no end.
    attempt('file', () => fs.closeSync(fs.openSync(file, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK)) === undefined && file);
  }
  for (const folder of ['/root', '/srv', '/opt', '/mnt', '/media', '/boot', '/etc/ssh', '/etc/ssl/private', '/var/lib', '/var/log', '/var/spool', '/sys']) {
    attempt('folder', () => fs.readdirSync(folder) && folder);
  }
  attempt('folder', () => fs.readdirSync('/home').filter((name) => name !== 'build').map((name) => `/home/${name}`));
  attempt('data', () => {
    const seen = [];
    walk(known.dir, (file, entry) => {
      if (!entry.isFile()) return;
      try {
        fs.closeSync(fs.openSync(file, 'r'));
        seen.push(file.slice(known.dir.length));
      } catch {
        // Not for us.
      }
    });
    return seen.slice(0, 20);
  });
}

/** Where other builds would leave something, and find what they left. */
function others() {
  for (const folder of [os.homedir(), '/tmp', '/var/tmp', '/dev/shm', os.tmpdir()]) {
    attempt('other build', () => fs.readdirSync(folder).filter((name) => name.startsWith('probe-of-') && name !== `probe-of-${known.repo}`));
    attempt('nothing', () => fs.writeFileSync(path.join(folder, `probe-of-${known.repo}`), ''));
  }
}

function writes() {
  const places = ['/', '/etc', '/usr', '/usr/bin', '/usr/local/bin', '/usr/lib', '/var', '/run', '/home', '/root', '/proc/sys/kernel', '/sys', '/dev', path.dirname(process.execPath)];
  // Where nothing of the host's is shown, its path may be one of our own /tmp.
  const hosts = fs.existsSync(known.config) ? [known.dir] : [];
  for (const folder of [...places, ...hosts, ...known.given]) {
    attempt('write', () => {
      const file = path.join(folder, `owned-${process.pid}`);
      fs.writeFileSync(file, '');
      fs.unlinkSync(file);
      return folder;
    });
  }
  // Settings of the whole machine.
  attempt('write', () => {
    const open = [];
    for (const name of fs.readdirSync('/proc').filter((name) => !/^(\d+|self|thread-self|net|mounts)$/.test(name))) {
      const look = (file) => {
        try {
          fs.accessSync(file, fs.constants.W_OK);
          open.push(file);
        } catch {
          // Not for us.
        }
      };
      look(`/proc/${name}`);
      if (fs.statSync(`/proc/${name}`).isDirectory()) walk(`/proc/${name}`, (file, entry) => entry.isFile() && look(file));
    }
    return open.slice(0, 20);
  });
}

function privileges() {
  const status = fs.readFileSync('/proc/self/status', 'utf8');
  const field = (name) => (new RegExp(`^${name}:\\s*(\\S+)`, 'm').exec(status) || [])[1];
  attempt('privilege', () => field('NoNewPrivs') !== '1' && 'set-user-id programs work');
  for (const name of ['CapEff', 'CapPrm', 'CapInh', 'CapAmb']) attempt('privilege', () => /[^0]/.test(field(name)) && `${name} ${field(name)}`);
  attempt('privilege', () => run('sh', '-c', 'ulimit -c').stdout.trim() !== '0' && 'core dumps');
  attempt('seccomp', () => field('Seccomp') !== '2' && 'none');
  attempt('namespace', () => run('unshare', '-Ur', 'true').status === 0 && 'of users');
  attempt('namespace', () => run('unshare', '-n', 'true').status === 0 && 'of the network');
  attempt('namespace', () => run('mount', '-t', 'tmpfs', 'none', '/mnt').status === 0 && 'a mount');
  attempt('device', () => run('mknod', path.join(os.tmpdir(), `node-${process.pid}`), 'b', '8', '0').status === 0 && 'a made one');
  const harmless = ['null', 'zero', 'full', 'random', 'urandom', 'ptmx', 'tty'];
  attempt('device', () => fs.readdirSync('/dev', { withFileTypes: true })
    .filter((entry) => (entry.isBlockDevice() || entry.isCharacterDevice()) && !harmless.includes(entry.name))
    .map((entry) => {
      try {
        fs.closeSync(fs.openSync(`/dev/${entry.name}`, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK));
        return entry.name;
      } catch {
        return '';
      }
    }));
  attempt('terminal', () => fs.openSync('/dev/tty', 'r+') && 'one that controls');
}

// Numbers of x86-64 and of everything later (arm64).
const CALLS = {
  // PTRACE_SEIZE, which stops nobody.
  ptrace: [101, 117, 0x4206, known.agent, 0, 0],
  bpf: [321, 280, 0, 0, 0],
  perf_event_open: [298, 241, 0, 0, -1, -1, 0],
  userfaultfd: [323, 282, 0],
  add_key: [248, 217, 0, 0, 0, 0, 0],
  keyctl: [250, 219, 0, -3, 0],
  io_uring_setup: [425, 425, 1, 0],
  unshare: [272, 97, 0x10000000],
  setns: [308, 268, -1, 0],
  mount: [165, 40, 0, 0, 0, 0, 0],
  open_by_handle_at: [304, 265, -1, 0, 0],
  pidfd_getfd: [438, 438, -1, 0, 0],
  kexec_load: [246, 104, 0, 0, 0, 0],
  init_module: [175, 105, 0, 0, 0],
  process_vm_readv: [310, 270, known.agent, 0, 0, 0, 0, 0],
};

/** Each in a process of its own. Refused is what ends in EPERM, EACCES or ENOSYS: everything else reached the kernel's code. */
function calls() {
  const at = process.arch === 'x64' ? 0 : 1;
  for (const [name, call] of Object.entries(CALLS)) {
    const script = `$! = 0; my $done = syscall(${[call[at], ...call.slice(2)].join(', ')}); print $done, " ", $!+0`;
    attempt('call', () => {
      const [done, error] = run('perl', '-e', script).stdout.split(' ').map(Number);
      return (done >= 0 || ![1, 13, 38].includes(error)) && name;
    });
  }
  const socket = (...numbers) => run('perl', '-e', `socket(my $s, ${numbers.join(', ')}) and print "made"`).stdout === 'made';
  attempt('raw network', () => socket(2, 3, 1) && 'ICMP');
  attempt('raw network', () => socket(17, 3, 0) && 'packets');
  attempt('terminal', () => run('perl', '-e', 'my $c = "x"; print "typed" if ioctl(STDIN, 0x5412, $c)').stdout === 'typed' && 'typing into it');
}

/** What answers at an address within a second. */
function connects(options, say) {
  return new Promise((resolve) => {
    const socket = net.connect(options);
    const end = (answer) => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(1000, () => end(false));
    socket.on('error', () => end(false));
    socket.on('connect', () => (say ? socket.write(say) : end(true)));
    if (say) socket.on('data', (data) => end(/^HTTP\/1.. 2/.test(data.toString())));
  });
}

async function network() {
  const reach = async (what, options, say) => {
    tried += 1;
    if (await connects(options, say)) found.add(`network: ${what}`);
  };
  const proxy = process.env.HTTPS_PROXY || process.env.https_proxy || process.env.npm_config_https_proxy;
  for (const [name, port] of Object.entries(known.ports)) {
    await reach(name, { host: '127.0.0.1', port });
    if (proxy) {
      const { hostname, port: door } = new URL(proxy);
      await reach(`${name} through the proxy`, { host: hostname, port: Number(door) }, `CONNECT 127.0.0.1:${port} HTTP/1.1\r\n\r\n`);
      await reach(`${name} by a name through the proxy`, { host: hostname, port: Number(door) }, `CONNECT localhost:${port} HTTP/1.1\r\n\r\n`);
    }
  }
  // node pads such a name.
  attempt('network', () => run('perl', '-e', `use Socket; socket(my $s, AF_UNIX, SOCK_STREAM, 0); print "there" if connect($s, pack("S a*", AF_UNIX, "\\0${known.abstract}"))`)
    .stdout === 'there' && 'an abstract socket');
  await reach('a socket in a folder', { path: known.socket });
  const sockets = [];
  attempt('nothing', () => walk('/run', (file, entry) => entry.isSocket() && sockets.push(file)));
  for (const socket of sockets) await reach(socket, { path: socket });
}

async function probe(way) {
  for (const look of [environment, processes, files, others, writes, privileges, calls]) attempt('nothing', look);
  await network();
  fs.writeSync(1, `PROBE ${JSON.stringify({ way, tried, found: [...found].sort() })}\n`);
}

if (require.main === module) {
  probe(process.argv[2] === 'as' ? process.argv[3] : known.way);
} else {
  const way = path.basename(module.parent.filename);
  childProcess.spawnSync(process.execPath, [__filename, 'as', way], { stdio: 'inherit' });
}
