'use strict';
// The driver's side of a peer: one JSON command a line on stdin, one JSON answer a line on stdout, end of stdin = exit.
// Commands and answers are described in ../peers.py. Which rsocket-js answers them is the business of each peer.js.

const readline = require('node:readline');

class RemoteError extends Error {
  constructor(code, text, items = []) {
    super(text);
    this.code = code;
    this.items = items;
  }
}

function say(answer) {
  process.stdout.write(JSON.stringify(answer) + '\n');
}

// `commands` maps a command's name to a function of its arguments that returns a promise of the answer's fields.
function serve(commands) {
  const input = readline.createInterface({input: process.stdin, crlfDelay: Infinity});
  input.on('line', (line) => {
    const {id, command, ...args} = JSON.parse(line);
    Promise.resolve()
      .then(() => commands[command](args))
      .then(
        (result) => say({id, ...result}),
        (error) =>
          say({id, error: {code: error.code ?? null, text: String(error.message ?? error)}, items: error.items ?? []}),
      );
  });
  input.on('close', () => process.exit(0));
}

// What a serving peer remembers and may be asked about later.
class Record {
  constructor() {
    this.notes = [];
    this.streams = new Map();
  }

  stream(key) {
    const state = {produced: 0, cancelled: false};
    this.streams.set(key, state);
    return state;
  }
}

// `thermo.count` -> `count`: the service name is the caller's concern, the method is ours.
function method(route) {
  return route.slice(route.lastIndexOf('.') + 1);
}

// `ws://HOST:PORT/PATH` or `tcp://HOST:PORT`.
function endpoint(url) {
  const parsed = new URL(url);
  return parsed.protocol === 'tcp:' ? {host: parsed.hostname, port: Number(parsed.port)} : null;
}

// A frame that the driver encoded, as an entry of composite metadata.
function brokerEntry(frame) {
  return ['message/x.rsocket.broker.frame.v0', Buffer.from(frame.hex, 'hex')];
}

// A payload's data as text; the libraries give null for none.
function dataText(payload) {
  return (payload.data ?? '').toString();
}

module.exports = {RemoteError, Record, brokerEntry, dataText, endpoint, method, serve};
