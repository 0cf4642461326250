package interop;

import com.google.gson.Gson;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import io.netty.buffer.ByteBufUtil;
import io.rsocket.Payload;
import io.rsocket.RSocket;
import io.rsocket.exceptions.ApplicationErrorException;
import io.rsocket.exceptions.CustomRSocketException;
import io.rsocket.metadata.CompositeMetadata;
import io.rsocket.util.DefaultPayload;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import org.reactivestreams.Publisher;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/** What a serving peer answers, and what it remembers of it. */
final class Responder implements RSocket {
  private static final Gson GSON = new Gson();
  private static final int FIRST_CUSTOM_CODE = 0x301;

  private final List<String> notes = new CopyOnWriteArrayList<>();
  private final Map<String, Progress> streams = new ConcurrentHashMap<>();

  private static final class Progress {
    private volatile int produced;
    private volatile boolean cancelled;
  }

  @Override
  public Mono<Void> fireAndForget(Payload payload) {
    notes.add(payload.getDataUtf8());
    return Mono.empty();
  }

  @Override
  public Mono<Payload> requestResponse(Payload payload) {
    String route = Metadata.route(payload.sliceMetadata());
    String data = payload.getDataUtf8();
    return switch (route.substring(route.lastIndexOf('.') + 1)) {
      case "echo" -> Mono.just(DefaultPayload.create(data));
      case "fail" -> Mono.error(error(JsonParser.parseString(data).getAsJsonObject()));
      case "seen" -> json(entries(payload));
      case "notes" -> json(GSON.toJsonTree(notes));
      case "progress" -> json(GSON.toJsonTree(streams.get(data)));
      default -> Mono.error(new ApplicationErrorException("unknown method"));
    };
  }

  @Override
  public Flux<Payload> requestStream(Payload payload) {
    JsonObject asked = JsonParser.parseString(payload.getDataUtf8()).getAsJsonObject();
    Progress progress = new Progress();
    streams.put(asked.get("key").getAsString(), progress);
    Flux<Payload> items =
        Flux.range(0, asked.get("count").getAsInt())
            .doOnNext(item -> progress.produced = item + 1)
            .doOnCancel(() -> progress.cancelled = true)
            .map(item -> DefaultPayload.create(String.valueOf(item)));
    return asked.has("text") ? items.concatWith(Mono.error(error(asked))) : items;
  }

  @Override
  public Flux<Payload> requestChannel(Publisher<Payload> payloads) {
    return Flux.from(payloads).map(payload -> DefaultPayload.create(payload.getDataUtf8()));
  }

  private static RuntimeException error(JsonObject asked) {
    int code = asked.get("code").getAsInt();
    String text = asked.get("text").getAsString();
    return code < FIRST_CUSTOM_CODE ? new ApplicationErrorException(text) : new CustomRSocketException(code, text);
  }

  private static Mono<Payload> json(JsonElement value) {
    return Mono.just(DefaultPayload.create(GSON.toJson(value)));
  }

  private static JsonArray entries(Payload payload) {
    JsonArray entries = new JsonArray();
    for (CompositeMetadata.Entry entry : new CompositeMetadata(payload.sliceMetadata(), false)) {
      JsonArray described = new JsonArray();
      described.add(entry.getMimeType());
      described.add(ByteBufUtil.hexDump(entry.getContent()));
      entries.add(described);
    }
    return entries;
  }
}
