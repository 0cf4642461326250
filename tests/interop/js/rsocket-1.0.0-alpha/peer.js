'use strict';
// A peer on stock rsocket-js 1.0.0-alpha.3: serves and calls over as many connections as its driver asks for.

const {RSocketConnector, RSocketError} = require('rsocket-core');
const {
  WellKnownMimeType,
  decodeCompositeMetadata,
  decodeRoutes,
  encodeBearerAuthMetadata,
  encodeCompositeMetadata,
  encodeRoute,
} = require('rsocket-composite-metadata');
const {TcpClientTransport} = require('rsocket-tcp-client');
const {WebsocketClientTransport} = require('rsocket-websocket-client');
const WebSocket = require('ws');
const {RemoteError, Record, brokerEntry, dataText, endpoint, method, serve} = require('../lines.js');

const ROUTING = WellKnownMimeType.MESSAGE_RSOCKET_ROUTING;
const AUTHENTICATION = WellKnownMimeType.MESSAGE_RSOCKET_AUTHENTICATION;
const COMPOSITE = WellKnownMimeType.MESSAGE_RSOCKET_COMPOSITE_METADATA;
const NOTHING = {cancel() {}, request() {}, onExtension() {}};

const connections = new Map();
const record = new Record();

function failure(error, items) {
  return new RemoteError(error.code ?? null, error.message, items);
}

// The library is compiled so that `new RSocketError()` is no instance of RSocketError, and its responder sends the code of
// an instance only. Without this every error goes out as APPLICATION_ERROR.
function coded(code, text) {
  return Object.setPrototypeOf(new RSocketError(code, text), RSocketError.prototype);
}

// An entry whose type came as a string keeps it in `type`, one that came as an id has it in `mimeType`.
function entriesOf(payload) {
  return Array.from(decodeCompositeMetadata(payload.metadata), (entry) => [
    entry.mimeType ?? String(entry.type),
    entry.content,
  ]);
}

function routeOf(payload) {
  const routing = entriesOf(payload).find(([mime]) => mime === ROUTING.string);
  return decodeRoutes(routing[1]).next().value;
}

function json(value) {
  return {data: Buffer.from(JSON.stringify(value))};
}

const answers = {
  echo: (payload) => ({data: payload.data}),
  fail: (payload) => {
    const {code, text} = JSON.parse(dataText(payload));
    throw coded(code, text);
  },
  seen: (payload) => json(entriesOf(payload).map(([mime, content]) => [mime, content.toString('hex')])),
  notes: () => json(record.notes),
  progress: (payload) => json(record.streams.get(dataText(payload)) ?? null),
};

const responder = {
  fireAndForget(payload) {
    record.notes.push(dataText(payload));
    return NOTHING;
  },
  requestResponse(payload, subscriber) {
    try {
      subscriber.onNext(answers[method(routeOf(payload))](payload), true);
    } catch (error) {
      subscriber.onError(error);
    }
    return NOTHING;
  },
  // `text` set: fails with it after `count` items instead of completing.
  requestStream(payload, initialN, subscriber) {
    const {key, count, code, text} = JSON.parse(dataText(payload));
    const state = record.stream(key);
    let ended = false;
    const request = (n) => {
      for (; !ended && n > 0 && state.produced < count; n--) {
        subscriber.onNext({data: Buffer.from(String(state.produced++))}, false);
      }
      if (!ended && state.produced === count) {
        ended = true;
        if (text === undefined) {
          subscriber.onComplete();
        } else {
          subscriber.onError(coded(code, text));
        }
      }
    };
    const cancel = () => {
      ended = true;
      state.cancelled = true;
    };
    setImmediate(() => request(initialN));
    return {...NOTHING, cancel, request};
  },
  // Echoes under the caller's credit: asks for one item more than it has passed on.
  requestChannel(payload, initialN, isCompleted, subscriber) {
    const waiting = [payload];
    let credit = initialN;
    let inputDone = isCompleted;
    let ended = false;
    const drain = () => {
      while (!ended && credit > 0 && waiting.length > 0) {
        credit--;
        subscriber.onNext({data: waiting.shift().data}, false);
        if (!inputDone) {
          subscriber.request(1);
        }
      }
      if (!ended && inputDone && waiting.length === 0) {
        ended = true;
        subscriber.onComplete();
      }
    };
    setImmediate(drain);
    return {
      cancel() {
        ended = true;
      },
      onComplete() {
        inputDone = true;
        drain();
      },
      onError() {
        ended = true;
      },
      onExtension() {},
      onNext(item, isComplete) {
        waiting.push(item);
        inputDone = inputDone || isComplete;
        drain();
      },
      request(n) {
        credit += n;
        drain();
      },
    };
  },
};

function composite(first, frames) {
  return encodeCompositeMetadata([first, ...frames.map(brokerEntry)]);
}

function message(args, data = args.data) {
  return {data: Buffer.from(data), metadata: composite([ROUTING, encodeRoute(args.route)], args.frames ?? [])};
}

function request(socket, payload) {
  return new Promise((resolve, reject) => {
    socket.requestResponse(payload, {
      onComplete: () => resolve({data: ''}),
      onError: (error) => reject(failure(error)),
      onExtension() {},
      onNext: (answer) => resolve({data: dataText(answer)}),
    });
  });
}

// A subscriber that collects items under the given credits and cancels when they are used up. `flow` is what the
// library returned for the request: it exists only after the subscriber does.
function collector(credits, resolve, reject) {
  const got = [];
  const left = [...credits];
  let due = left.shift();
  return {
    flow: null,
    onComplete: () => resolve({items: got, completed: true}),
    onError: (error) => reject(failure(error, got)),
    onExtension() {},
    onNext(payload, isComplete) {
      got.push(dataText(payload));
      if (isComplete) {
        resolve({items: got, completed: true});
      } else if (--due === 0) {
        if (left.length > 0) {
          due = left.shift();
          this.flow.request(due);
        } else {
          this.flow.cancel();
          resolve({items: got, completed: false});
        }
      }
    },
  };
}

serve({
  async connect(args) {
    const tcp = endpoint(args.url);
    const connector = new RSocketConnector({
      fragmentation: {maxOutboundFragmentSize: args.fragment_bytes},
      responder,
      setup: {
        dataMimeType: WellKnownMimeType.APPLICATION_JSON.string,
        keepAlive: args.keepalive_ms,
        lifetime: args.lifetime_ms,
        metadataMimeType: COMPOSITE.string,
        payload: {
          data: undefined,
          metadata: composite([AUTHENTICATION, encodeBearerAuthMetadata(args.token)], args.frames ?? []),
        },
      },
      transport: tcp
        ? new TcpClientTransport({connectionOptions: tcp})
        : new WebsocketClientTransport({url: args.url, wsCreator: (url) => new WebSocket(url, 'rsocket')}),
    });
    const socket = await connector.connect();
    connections.set(args.connection, socket);
    // What ended the connection keeps its code only here: pending requests are told no more than "Closed".
    const closed = new Promise((_, reject) => socket.onClose((error) => reject(failure(error ?? new Error('closed')))));
    closed.catch(() => {});
    return request(socket, message({route: 'gateway.ready', data: ''})).catch((error) =>
      error.code === null ? closed : Promise.reject(error),
    );
  },
  async request(args) {
    return request(connections.get(args.connection), message(args));
  },
  async fnf(args) {
    connections.get(args.connection).fireAndForget(message(args), {onComplete() {}, onError() {}});
    return {};
  },
  async stream(args) {
    return new Promise((resolve, reject) => {
      const subscriber = collector(args.credits, resolve, reject);
      const socket = connections.get(args.connection);
      subscriber.flow = socket.requestStream(message(args), args.credits[0], subscriber);
    });
  },
  async channel(args) {
    return new Promise((resolve, reject) => {
      const [first, ...rest] = args.items;
      const subscriber = collector(args.credits, resolve, reject);
      let flow;
      const outgoing = {
        cancel() {},
        request(n) {
          for (; n > 0 && rest.length > 0; n--) {
            flow.onNext({data: Buffer.from(rest.shift())}, rest.length === 0);
          }
        },
      };
      flow = connections
        .get(args.connection)
        .requestChannel(message(args, first), args.credits[0], rest.length === 0, Object.assign(subscriber, outgoing));
      subscriber.flow = flow;
    });
  },
  async close(args) {
    connections.get(args.connection).close();
    connections.delete(args.connection);
    return {};
  },
});
