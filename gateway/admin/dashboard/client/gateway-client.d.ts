/** Bytes as they are, text as UTF-8, nothing as nothing, anything else as JSON. */
export type Data = Uint8Array | ArrayBuffer | ArrayBufferView | string | null | undefined | object | number | boolean;

/** What came, or what a handler answers with where metadata goes along. */
export class Payload {
  constructor(data: Data, metadata?: Uint8Array | null);
  readonly data: Uint8Array;
  readonly metadata: Uint8Array | null;
  text(): string;
  json(): any;
}

/** `code` is RSocket's, or 0; then `name` is UNREACHABLE, TIMEOUT, LOST, CLOSED or MALFORMED. */
export class GatewayError extends Error {
  constructor(code: number, text?: string, name?: string);
  readonly code: number;
  readonly text: string;
  /** Nobody has processed it: it may be asked again. */
  readonly retryable: boolean;
}

export interface Status {
  readonly state: "connecting" | "online" | "waiting" | "closed";
  readonly reason: string;
  readonly error: GatewayError | null;
  /** Unix milliseconds. */
  readonly since: number;
  /** While waiting: when it is tried again. */
  readonly retryAt?: number;
  /** Online: the node, and whether streams went on where they were. */
  readonly node?: string;
  readonly resumed?: boolean;
}

/** What `gateway.ready` answers. */
export interface Ready {
  node: string;
  session: string;
  sub: string;
  services: string[];
  keepalive_ms: number;
  lifetime_ms: number;
  resume: boolean;
  lease: boolean;
  expires: number | null;
  renew: boolean;
  time: number;
}

export interface CallOptions {
  /** Milliseconds, the wait for a connection included; for streams that wait alone. 0: for ever. */
  timeout?: number;
  signal?: AbortSignal;
  /** `key=value` tags that narrow who may answer. */
  tags?: Record<string, string>;
  /** Further entries: MIME type and content. */
  metadata?: Array<[string, Data]>;
}

export interface StreamOptions extends CallOptions {
  /** How many items may be under way; "manual": `Items.request` asks for them. */
  credit?: number | "manual";
}

export interface Items extends AsyncIterableIterator<Payload> {
  /** Credit for `n` more. */
  request(n: number): void;
  return(): Promise<IteratorResult<Payload>>;
}

export interface Request {
  route: string;
  tags: string[];
  caller: { subject: string; kind: string; node: string; [more: string]: unknown } | null;
  metadata: Array<[string, Uint8Array]>;
  /** Aborted when the caller leaves or the connection is lost for good. */
  signal: AbortSignal;
}

type Answer = Data | Payload;
type RequestHandler = (payload: Payload, request: Request) => Answer | Promise<Answer>;

/** A function serves request/response and fire-and-forget. */
export type Handler =
  | RequestHandler
  | {
      request?: RequestHandler;
      fireAndForget?: (payload: Payload, request: Request) => unknown;
      stream?: (payload: Payload, request: Request) => AsyncIterable<Answer> | Iterable<Answer>;
      channel?: (items: Items, request: Request) => AsyncIterable<Answer> | Iterable<Answer>;
    };

export type Credential = string | { token: string; protocols?: string[] };

export interface Options {
  token?: string | (() => Credential | Promise<Credential>);
  protocols?: string[];
  services?: string[] | Record<string, Record<string, string>>;
  routes?: Record<string, Handler>;
  renew?: { secret?: string; save?: (token: string) => unknown } | null;
  resume?: number;
  resumeFor?: number;
  lease?: boolean;
  credit?: number;
  timeout?: number;
  connectTimeout?: number;
  keepalive?: number;
  lifetime?: number;
  backoff?: [number, number];
  stable?: number;
  fragment?: number;
  maxPayload?: number;
  maxServing?: number;
  maxWaiting?: number;
  reconnect?: boolean;
  WebSocket?: unknown;
}

/** Events: "status" (detail: Status) and "push" (detail: Uint8Array, what METADATA_PUSH brought). */
export interface Link extends EventTarget {
  readonly status: Status;
  online(options?: { timeout?: number; signal?: AbortSignal }): Promise<Ready>;
  request(route: string, data?: Data, options?: CallOptions): Promise<Payload>;
  fireAndForget(route: string, data?: Data, options?: CallOptions): Promise<void>;
  stream(route: string, data?: Data, options?: StreamOptions): Items;
  channel(route: string, items: AsyncIterable<Data> | Iterable<Data>, options?: StreamOptions): Items;
  /** A stream that is asked for again after a loss. */
  subscribe(route: string, data?: Data, options?: StreamOptions): AsyncGenerator<Payload, void, void>;
  metadataPush(metadata: Uint8Array): Promise<void>;
  close(reason?: string): void;
}

export function connect(url: string | string[], options?: Options): Link;
