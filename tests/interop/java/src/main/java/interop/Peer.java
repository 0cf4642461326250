package interop;

import com.google.gson.Gson;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import io.netty.buffer.ByteBufUtil;
import io.rsocket.Payload;
import io.rsocket.RSocket;
import io.rsocket.RSocketErrorException;
import io.rsocket.SocketAcceptor;
import io.rsocket.core.RSocketConnector;
import io.rsocket.core.Resume;
import io.rsocket.metadata.WellKnownMimeType;
import io.rsocket.transport.ClientTransport;
import io.rsocket.transport.netty.client.TcpClientTransport;
import io.rsocket.transport.netty.client.WebsocketClientTransport;
import io.rsocket.util.DefaultPayload;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.reactivestreams.Subscription;
import reactor.core.publisher.BaseSubscriber;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.publisher.MonoSink;
import reactor.core.publisher.SignalType;
import reactor.util.retry.Retry;

/**
 * A peer on stock rsocket-java: serves and calls over as many connections as its driver asks for. One JSON command a line
 * on stdin, one JSON answer a line on stdout, end of stdin = exit. Commands and answers are described in ../peers.py.
 */
public final class Peer {
  private static final Gson GSON = new Gson();
  private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);

  private final Map<String, RSocket> connections = new ConcurrentHashMap<>();
  private final Responder responder = new Responder();

  public static void main(String[] args) throws IOException {
    // Whatever a library prints must not mix with the answers.
    System.setOut(System.err);
    Peer peer = new Peer();
    BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = input.readLine(); line != null; line = input.readLine()) {
      JsonObject command = JsonParser.parseString(line).getAsJsonObject();
      peer.answer(command)
          .onErrorResume(error -> Mono.just(failure(error)))
          .subscribe(answer -> say(command.get("id"), answer));
    }
    System.exit(0);
  }

  private static synchronized void say(JsonElement id, JsonObject answer) {
    answer.add("id", id);
    OUT.println(GSON.toJson(answer));
  }

  private static JsonObject failure(Throwable error) {
    Throwable cause = error instanceof Interrupted interrupted ? interrupted.getCause() : error;
    JsonObject described = new JsonObject();
    described.addProperty("code", cause instanceof RSocketErrorException coded ? coded.errorCode() : null);
    described.addProperty("text", String.valueOf(cause.getMessage()));
    JsonObject answer = new JsonObject();
    answer.add("error", described);
    answer.add("items", GSON.toJsonTree(error instanceof Interrupted interrupted ? interrupted.items : List.of()));
    return answer;
  }

  private Mono<JsonObject> answer(JsonObject command) {
    return Mono.defer(
        () ->
            switch (command.get("command").getAsString()) {
              case "connect" -> connect(command);
              case "request" -> data(connection(command).requestResponse(message(command)));
              case "fnf" -> connection(command).fireAndForget(message(command)).thenReturn(new JsonObject());
              case "stream" -> collect(connection(command).requestStream(message(command)), command);
              case "channel" -> collect(connection(command).requestChannel(outgoing(command)), command);
              case "encode" -> Mono.just(encoded(command));
              case "close" -> close(command);
              default -> Mono.error(new IllegalArgumentException("unknown command"));
            });
  }

  private RSocket connection(JsonObject command) {
    return connections.get(command.get("connection").getAsString());
  }

  private Mono<JsonObject> connect(JsonObject command) {
    URI url = URI.create(command.get("url").getAsString());
    ClientTransport transport =
        url.getScheme().equals("tcp")
            ? TcpClientTransport.create(url.getHost(), url.getPort())
            : WebsocketClientTransport.create(url);
    RSocketConnector connector =
        RSocketConnector.create()
            .metadataMimeType(WellKnownMimeType.MESSAGE_RSOCKET_COMPOSITE_METADATA.getString())
            .dataMimeType(WellKnownMimeType.APPLICATION_JSON.getString())
            .keepAlive(
                Duration.ofMillis(command.get("keepalive_ms").getAsLong()),
                Duration.ofMillis(command.get("lifetime_ms").getAsLong()))
            .fragment(command.get("fragment_bytes").getAsInt())
            .setupPayload(Metadata.setup(command.get("token").getAsString(), frames(command)))
            .acceptor(SocketAcceptor.with(responder));
    if (command.get("resume").getAsBoolean()) {
      connector.resume(new Resume().retry(Retry.fixedDelay(Long.MAX_VALUE, Duration.ofMillis(20))));
    }
    return connector
        .connect(transport)
        .flatMap(
            connected -> {
              connections.put(command.get("connection").getAsString(), connected);
              return data(connected.requestResponse(Metadata.request("gateway.ready", "", new JsonArray())));
            });
  }

  private Mono<JsonObject> close(JsonObject command) {
    connections.remove(command.get("connection").getAsString()).dispose();
    return Mono.just(new JsonObject());
  }

  private static JsonObject encoded(JsonObject command) {
    JsonObject answer = new JsonObject();
    answer.addProperty("data", ByteBufUtil.hexDump(Metadata.brokerFrame(command.getAsJsonObject("frame"))));
    return answer;
  }

  private static JsonArray frames(JsonObject command) {
    JsonArray frames = command.getAsJsonArray("frames");
    return frames == null ? new JsonArray() : frames;
  }

  private static Payload message(JsonObject command) {
    return Metadata.request(command.get("route").getAsString(), command.get("data").getAsString(), frames(command));
  }

  private static Flux<Payload> outgoing(JsonObject command) {
    List<JsonElement> items = command.getAsJsonArray("items").asList();
    String route = command.get("route").getAsString();
    Payload first = Metadata.request(route, items.get(0).getAsString(), frames(command));
    return Flux.concat(
        Mono.just(first),
        Flux.fromIterable(items.subList(1, items.size())).map(item -> DefaultPayload.create(item.getAsString())));
  }

  private static Mono<JsonObject> data(Mono<Payload> response) {
    return response
        .map(Payload::getDataUtf8)
        .defaultIfEmpty("")
        .map(
            text -> {
              JsonObject answer = new JsonObject();
              answer.addProperty("data", text);
              return answer;
            });
  }

  /** Collects the items under the command's credits; when they are used up, cancels. */
  private static Mono<JsonObject> collect(Flux<Payload> items, JsonObject command) {
    List<Integer> credits = new ArrayList<>();
    command.getAsJsonArray("credits").forEach(credit -> credits.add(credit.getAsInt()));
    return Mono.create(sink -> items.subscribe(new Collector(credits, sink)));
  }

  private static final class Interrupted extends RuntimeException {
    private static final long serialVersionUID = 1L;
    private final transient List<String> items;

    Interrupted(Throwable cause, List<String> items) {
      super(cause);
      this.items = items;
    }
  }

  private static final class Collector extends BaseSubscriber<Payload> {
    private final List<String> items = new ArrayList<>();
    private final List<Integer> credits;
    private final MonoSink<JsonObject> sink;
    private int due;

    Collector(List<Integer> credits, MonoSink<JsonObject> sink) {
      this.credits = credits;
      this.sink = sink;
    }

    @Override
    protected void hookOnSubscribe(Subscription subscription) {
      due = credits.remove(0);
      request(due);
    }

    @Override
    protected void hookOnNext(Payload payload) {
      items.add(payload.getDataUtf8());
      due -= 1;
      if (due > 0) {
        return;
      }
      if (credits.isEmpty()) {
        cancel();
        sink.success(collected(false));
      } else {
        due = credits.remove(0);
        request(due);
      }
    }

    @Override
    protected void hookOnError(Throwable error) {
      sink.error(new Interrupted(error, items));
    }

    @Override
    protected void hookOnComplete() {
      sink.success(collected(true));
    }

    @Override
    protected void hookFinally(SignalType type) {}

    private JsonObject collected(boolean completed) {
      JsonObject answer = new JsonObject();
      answer.add("items", GSON.toJsonTree(items));
      answer.addProperty("completed", completed);
      return answer;
    }
  }
}
