// Sends through the proxy of the environment what asks for none by itself: bower's resolver for npm, before node 24.
'use strict';
const http = require('http');
const tls = require('tls');

const proxy = new URL(process.env.HTTPS_PROXY);
const direct = (process.env.NO_PROXY || '').split(',');

function tunnel(options, port, done) {
  const request = { host: proxy.hostname, port: proxy.port, agent: false, method: 'CONNECT' };
  http.request({ ...request, path: `${options.host}:${options.port || port}` })
    .on('error', done)
    .on('connect', (answer, socket) => {
      if (answer.statusCode === 200) return done(null, socket);
      socket.destroy();
      done(new Error(`${options.host}: the proxy answered ${answer.statusCode}`));
    })
    .end();
}

function behind(agent, port, speak) {
  const straight = agent.createConnection;
  agent.createConnection = function (options, done) {
    if (options.socketPath || direct.includes(options.host)) return straight.call(this, options, done);
    tunnel(options, port, (error, socket) => (error ? done(error) : done(null, speak(socket, options))));
  };
}

behind(http.globalAgent, 80, socket => socket);
behind(require('https').globalAgent, 443, (socket, options) =>
  tls.connect({ ...options, socket, servername: options.servername || options.host }));
