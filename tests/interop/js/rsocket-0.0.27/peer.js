'use strict';
// A peer on stock rsocket-js 0.0.27: serves and calls over as many connections as its driver asks for.

const {
  APPLICATION_JSON,
  BufferEncoders,
  MESSAGE_RSOCKET_AUTHENTICATION,
  MESSAGE_RSOCKET_COMPOSITE_METADATA,
  MESSAGE_RSOCKET_ROUTING,
  RSocketClient,
  decodeCompositeMetadata,
  decodeRoutes,
  encodeBearerAuthMetadata,
  encodeCompositeMetadata,
  encodeRoute,
} = require('rsocket-core');
const {Flowable, Single} = require('rsocket-flowable');
const RSocketTcpClient = require('rsocket-tcp-client').default;
const RSocketWebSocketClient = require('rsocket-websocket-client').default;
const WebSocket = require('ws');
const {RemoteError, Record, brokerEntry, dataText, endpoint, method, serve} = require('../lines.js');

const connections = new Map();
const record = new Record();

function failure(error, items) {
  return new RemoteError(error.source?.code ?? null, error.source?.message ?? error.message, items);
}

function entriesOf(payload) {
  return Array.from(decodeCompositeMetadata(payload.metadata), (entry) => [entry.mimeType, entry.content]);
}

function routeOf(payload) {
  const routing = entriesOf(payload).find(([mime]) => mime === MESSAGE_RSOCKET_ROUTING.string);
  return decodeRoutes(routing[1]).next().value;
}

function json(value) {
  return {data: Buffer.from(JSON.stringify(value))};
}

const answers = {
  echo: (payload) => ({data: payload.data}),
  seen: (payload) => json(entriesOf(payload).map(([mime, content]) => [mime, content.toString('hex')])),
  notes: () => json(record.notes),
  progress: (payload) => json(record.streams.get(dataText(payload)) ?? null),
};

// `text` set: fails with it after `count` items instead of completing.
function items(key, count, text) {
  const state = record.stream(key);
  return new Flowable((subscriber) => {
    let ended = false;
    subscriber.onSubscribe({
      cancel: () => {
        ended = true;
        state.cancelled = true;
      },
      request: (n) => {
        for (; !ended && n > 0 && state.produced < count; n--) {
          subscriber.onNext({data: Buffer.from(String(state.produced++))});
        }
        if (!ended && state.produced === count) {
          ended = true;
          if (text === undefined) {
            subscriber.onComplete();
          } else {
            subscriber.onError(new Error(text));
          }
        }
      },
    });
  });
}

const responder = {
  fireAndForget(payload) {
    record.notes.push(dataText(payload));
  },
  requestResponse(payload) {
    const asked = method(routeOf(payload));
    if (asked === 'fail') {
      // This version gives a responder no say in the code: every error goes out as APPLICATION_ERROR.
      return Single.error(new Error(JSON.parse(dataText(payload)).text));
    }
    return Single.of(answers[asked](payload));
  },
  requestStream(payload) {
    const {key, count, text} = JSON.parse(dataText(payload));
    return items(key, count, text);
  },
  requestChannel(payloads) {
    return payloads.map((payload) => ({data: payload.data}));
  },
};

function metadata(route, frames) {
  return encodeCompositeMetadata([
    [MESSAGE_RSOCKET_ROUTING, encodeRoute(route)],
    ...frames.map(brokerEntry),
  ]);
}

function message(args, data = args.data) {
  return {data: Buffer.from(data), metadata: metadata(args.route, args.frames ?? [])};
}

// Collects a Flowable under the given credits; when they are used up, cancels.
function collect(flowable, credits) {
  return new Promise((resolve, reject) => {
    const got = [];
    const left = [...credits];
    let due = left.shift();
    let subscription;
    flowable.subscribe({
      onSubscribe: (given) => {
        subscription = given;
        subscription.request(due);
      },
      onNext: (payload) => {
        got.push(dataText(payload));
        if (--due > 0) {
          return;
        }
        if (left.length > 0) {
          due = left.shift();
          subscription.request(due);
        } else {
          subscription.cancel();
          resolve({items: got, completed: false});
        }
      },
      onComplete: () => resolve({items: got, completed: true}),
      onError: (error) => reject(failure(error, got)),
    });
  });
}

function single(one) {
  return new Promise((resolve, reject) => one.then(resolve, (error) => reject(failure(error))));
}

serve({
  async connect(args) {
    const tcp = endpoint(args.url);
    const transport = tcp
      ? new RSocketTcpClient(tcp, BufferEncoders)
      : new RSocketWebSocketClient({url: args.url, wsCreator: (url) => new WebSocket(url)}, BufferEncoders);
    const client = new RSocketClient({
      setup: {
        dataMimeType: APPLICATION_JSON.string,
        keepAlive: args.keepalive_ms,
        lifetime: args.lifetime_ms,
        metadataMimeType: MESSAGE_RSOCKET_COMPOSITE_METADATA.string,
        payload: {
          metadata: encodeCompositeMetadata([
            [MESSAGE_RSOCKET_AUTHENTICATION, encodeBearerAuthMetadata(args.token)],
            ...(args.frames ?? []).map(brokerEntry),
          ]),
        },
      },
      errorHandler: () => {},
      responder,
      transport,
    });
    const socket = await single(client.connect());
    connections.set(args.connection, socket);
    const ready = await single(socket.requestResponse(message({route: 'gateway.ready', data: ''})));
    return {data: dataText(ready)};
  },
  async request(args) {
    const payload = await single(connections.get(args.connection).requestResponse(message(args)));
    return {data: dataText(payload)};
  },
  async fnf(args) {
    connections.get(args.connection).fireAndForget(message(args));
    return {};
  },
  async stream(args) {
    return collect(connections.get(args.connection).requestStream(message(args)), args.credits);
  },
  async channel(args) {
    const [first, ...rest] = args.items;
    const outgoing = Flowable.just(message(args, first), ...rest.map((item) => ({data: Buffer.from(item)})));
    return collect(connections.get(args.connection).requestChannel(outgoing), args.credits);
  },
  async close(args) {
    connections.get(args.connection).close();
    connections.delete(args.connection);
    return {};
  },
});
