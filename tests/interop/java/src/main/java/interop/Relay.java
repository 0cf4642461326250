package interop;

import io.netty.buffer.ByteBuf;
import io.rsocket.Payload;
import io.rsocket.RSocket;
import io.rsocket.broker.common.MimeTypes;
import io.rsocket.broker.frames.FrameHeaderFlyweight;
import io.rsocket.broker.frames.FrameType;
import io.rsocket.broker.frames.RouteSetupFlyweight;
import io.rsocket.core.RSocketServer;
import io.rsocket.frame.decoder.PayloadDecoder;
import io.rsocket.metadata.CompositeMetadata;
import io.rsocket.transport.netty.server.WebsocketServerTransport;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicInteger;
import org.reactivestreams.Publisher;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/**
 * A broker in the manner of rsocket-broker, as small as one can be: a connection whose SETUP holds a ROUTE_SETUP serves
 * that service, and a request goes to one of those that serve the part of its route before the last dot, in turn.
 * Payloads are passed on as they are. No tokens, no limits. Run by the benchmarks: Relay PORT
 */
public final class Relay {
  private final Map<String, List<RSocket>> services = new ConcurrentHashMap<>();
  private final AtomicInteger turn = new AtomicInteger();

  public static void main(String[] args) {
    Relay relay = new Relay();
    RSocketServer.create((setup, requester) -> Mono.just(relay.accept(setup.sliceMetadata(), requester)))
        .payloadDecoder(PayloadDecoder.ZERO_COPY)
        .bindNow(WebsocketServerTransport.create("127.0.0.1", Integer.parseInt(args[0])))
        .onClose()
        .block();
  }

  private RSocket accept(ByteBuf metadata, RSocket requester) {
    for (CompositeMetadata.Entry entry : new CompositeMetadata(metadata, false)) {
      if (MimeTypes.BROKER_FRAME_MIME_TYPE.equals(entry.getMimeType())
          && FrameHeaderFlyweight.frameType(entry.getContent()) == FrameType.ROUTE_SETUP) {
        String name = RouteSetupFlyweight.serviceName(entry.getContent());
        List<RSocket> servers = services.computeIfAbsent(name, key -> new CopyOnWriteArrayList<>());
        servers.add(requester);
        requester.onClose().doFinally(signal -> servers.remove(requester)).subscribe();
      }
    }
    return new Forwarding();
  }

  private RSocket target(Payload request) {
    String route = Metadata.route(request.sliceMetadata());
    List<RSocket> servers = services.getOrDefault(route.substring(0, route.lastIndexOf('.')), List.of());
    if (servers.isEmpty()) {
      request.release();
      throw new IllegalStateException("no route to " + route);
    }
    return servers.get(Math.floorMod(turn.getAndIncrement(), servers.size()));
  }

  private final class Forwarding implements RSocket {
    @Override
    public Mono<Void> fireAndForget(Payload request) {
      return target(request).fireAndForget(request);
    }

    @Override
    public Mono<Payload> requestResponse(Payload request) {
      return target(request).requestResponse(request);
    }

    @Override
    public Flux<Payload> requestStream(Payload request) {
      return target(request).requestStream(request);
    }

    @Override
    public Flux<Payload> requestChannel(Publisher<Payload> requests) {
      return Flux.from(requests)
          .switchOnFirst((first, all) -> first.hasValue() ? target(first.get()).requestChannel(all) : Flux.from(all));
    }
  }
}
