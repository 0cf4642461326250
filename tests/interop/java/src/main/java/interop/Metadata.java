package interop;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import io.netty.buffer.ByteBuf;
import io.netty.buffer.ByteBufAllocator;
import io.netty.buffer.CompositeByteBuf;
import io.netty.buffer.Unpooled;
import io.rsocket.Payload;
import io.rsocket.broker.common.Id;
import io.rsocket.broker.common.MimeTypes;
import io.rsocket.broker.common.Tags;
import io.rsocket.broker.common.WellKnownKey;
import io.rsocket.broker.frames.AddressFlyweight;
import io.rsocket.broker.frames.BrokerInfoFlyweight;
import io.rsocket.broker.frames.RouteJoinFlyweight;
import io.rsocket.broker.frames.RouteRemoveFlyweight;
import io.rsocket.broker.frames.RouteSetupFlyweight;
import io.rsocket.broker.frames.RoutingType;
import io.rsocket.metadata.AuthMetadataCodec;
import io.rsocket.metadata.CompositeMetadata;
import io.rsocket.metadata.CompositeMetadataCodec;
import io.rsocket.metadata.RoutingMetadata;
import io.rsocket.metadata.TaggingMetadataCodec;
import io.rsocket.metadata.WellKnownMimeType;
import io.rsocket.util.DefaultPayload;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import java.util.UUID;

/**
 * Composite metadata in the form a Spring requester gives it: the route under its well-known id, every other entry under
 * the string form of its type, even where an id exists. Broker frames are encoded by the broker client's own flyweights.
 */
final class Metadata {
  private static final ByteBufAllocator ALLOCATOR = ByteBufAllocator.DEFAULT;
  private static final String ROUTING = WellKnownMimeType.MESSAGE_RSOCKET_ROUTING.getString();

  private Metadata() {}

  static Payload setup(String token, JsonArray frames) {
    CompositeByteBuf metadata = ALLOCATOR.compositeBuffer();
    ByteBuf bearer = AuthMetadataCodec.encodeBearerMetadata(ALLOCATOR, token.toCharArray());
    addString(metadata, WellKnownMimeType.MESSAGE_RSOCKET_AUTHENTICATION.getString(), bearer);
    addFrames(metadata, frames);
    return DefaultPayload.create(Unpooled.EMPTY_BUFFER, metadata);
  }

  static Payload request(String route, String data, JsonArray frames) {
    CompositeByteBuf metadata = ALLOCATOR.compositeBuffer();
    ByteBuf routing = TaggingMetadataCodec.createTaggingContent(ALLOCATOR, List.of(route));
    CompositeMetadataCodec.encodeAndAddMetadata(
        metadata, ALLOCATOR, WellKnownMimeType.MESSAGE_RSOCKET_ROUTING, routing);
    addFrames(metadata, frames);
    addString(metadata, WellKnownMimeType.MESSAGE_RSOCKET_MIMETYPE.getString(), mime("application/json"));
    return DefaultPayload.create(Unpooled.copiedBuffer(data, StandardCharsets.UTF_8), metadata);
  }

  static ByteBuf brokerFrame(JsonObject frame) {
    Tags tags = tags(frame.getAsJsonObject("tags"));
    return switch (frame.get("type").getAsString()) {
      case "ROUTE_SETUP" -> RouteSetupFlyweight.encode(ALLOCATOR, id(frame, "route_id"), service(frame), tags, 0);
      case "ROUTE_JOIN" ->
          RouteJoinFlyweight.encode(
              ALLOCATOR, id(frame, "broker_id"), id(frame, "route_id"), timestamp(frame), service(frame), tags, 0);
      case "ROUTE_REMOVE" ->
          RouteRemoveFlyweight.encode(
              ALLOCATOR, id(frame, "broker_id"), id(frame, "route_id"), timestamp(frame), 0);
      case "BROKER_INFO" -> BrokerInfoFlyweight.encode(ALLOCATOR, id(frame, "broker_id"), timestamp(frame), tags, 0);
      case "ADDRESS" ->
          AddressFlyweight.encode(
              ALLOCATOR, id(frame, "route_id"), Tags.empty(), tags, RoutingType.UNICAST.getFlag());
      default -> throw new IllegalArgumentException("unknown frame type");
    };
  }

  static String route(ByteBuf metadata) {
    for (CompositeMetadata.Entry entry : new CompositeMetadata(metadata, false)) {
      if (ROUTING.equals(entry.getMimeType())) {
        return new RoutingMetadata(entry.getContent()).iterator().next();
      }
    }
    throw new IllegalArgumentException("no route");
  }

  private static Id id(JsonObject frame, String name) {
    return Id.from(UUID.fromString(frame.get(name).getAsString()));
  }

  private static String service(JsonObject frame) {
    return frame.get("service").getAsString();
  }

  private static long timestamp(JsonObject frame) {
    return frame.get("timestamp_ms").getAsLong();
  }

  /** A key that is a number is a well-known one's id: those of the extension keys have names of their own. */
  private static Tags tags(JsonObject named) {
    var builder = Tags.builder();
    for (Map.Entry<String, JsonElement> tag : named.entrySet()) {
      if (tag.getKey().chars().allMatch(Character::isDigit)) {
        builder.with(WellKnownKey.fromIdentifier(Integer.parseInt(tag.getKey())), tag.getValue().getAsString());
      } else {
        builder.with(tag.getKey(), tag.getValue().getAsString());
      }
    }
    return builder.buildTags();
  }

  private static ByteBuf mime(String name) {
    WellKnownMimeType known = WellKnownMimeType.fromString(name);
    return Unpooled.wrappedBuffer(new byte[] {(byte) (0x80 | known.getIdentifier())});
  }

  private static void addFrames(CompositeByteBuf metadata, JsonArray frames) {
    frames.forEach(frame -> addString(metadata, MimeTypes.BROKER_FRAME_MIME_TYPE, brokerFrame(frame.getAsJsonObject())));
  }

  private static void addString(CompositeByteBuf metadata, String mime, ByteBuf content) {
    CompositeMetadataCodec.encodeAndAddMetadata(metadata, ALLOCATOR, mime, content);
  }
}
