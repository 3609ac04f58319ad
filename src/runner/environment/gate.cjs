// Sends through the proxy of the environment what asks for none by itself: scripts and bower's resolvers, before node 24.
// Loaded into every node of a step behind a gate, so it is to work in any, and to do nothing where there is no proxy.
'use strict';
const http = require('http');
const https = require('https');
const tls = require('tls');

const proxy = process.env.HTTPS_PROXY && new (require('url').URL)(process.env.HTTPS_PROXY);
const direct = (process.env.NO_PROXY || '').split(',');
// Node 24 does it itself.
const isKnown = http.globalAgent.options && http.globalAgent.options.proxyEnv;

function tunnel(options, port, done) {
  const host = options.host || 'localhost';
  const path = (host.includes(':') ? '[' + host + ']' : host) + ':' + (options.port || port);
  http.request({ host: proxy.hostname, port: proxy.port, agent: false, method: 'CONNECT', path })
    .on('error', done)
    .on('connect', (answer, socket) => {
      if (answer.statusCode === 200) return done(null, socket);
      socket.destroy();
      // As the name is not found where nothing is open, and with what the gate says of it.
      done(Object.assign(new Error(path + ': the proxy answered ' + answer.statusCode), { code: 'ECONNREFUSED' }));
    })
    .end();
}

function isStraight(options) {
  const host = options.host || 'localhost';
  const isProxy = host === proxy.hostname && String(options.port) === proxy.port;
  return options.socketPath || options.socket || isProxy || direct.includes(host);
}

function behind(agent, port, speak) {
  const straight = agent.createConnection;
  agent.createConnection = function (options, done) {
    if (isStraight(options)) return straight.call(this, options, done);
    tunnel(options, port, (error, socket) => (error ? done(error) : done(null, speak(socket, options))));
  };
}

if (proxy && !isKnown) {
  behind(http.globalAgent, 80, socket => socket);
  behind(https.globalAgent, 443, (socket, options) =>
    tls.connect(Object.assign({}, options, { socket, servername: options.servername || options.host })));
}
