"""Reads strayd's anomalies with confluent-kafka's own deserialisers: a JSON line for each line of hexadecimal digits.

    read.py URL TOPIC avro [READER_SCHEMA]
    read.py URL TOPIC protobuf DESCRIPTOR_SET

Times become the text that the JSON record has.
"""

import datetime
import json
import sys

from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory


def text(time):
    return time.astimezone(datetime.timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def plain(message):
    name = message.DESCRIPTOR.full_name
    if name == "google.protobuf.Timestamp":
        return text(message.ToDatetime(datetime.timezone.utc))
    if name == "google.protobuf.Value":
        kind = message.WhichOneof("kind")
        return None if kind == "null_value" else getattr(message, kind)
    values = {}
    for field in message.DESCRIPTOR.fields:
        value, inner = getattr(message, field.name), plain if field.message_type else lambda value: value
        if hasattr(value, "extend"):
            values[field.name] = [inner(item) for item in value]
        else:
            is_there = not field.has_presence or message.HasField(field.name)
            values[field.name] = inner(value) if is_there else None
    return values


def main():
    url, topic, kind, *more = sys.argv[1:]
    client = SchemaRegistryClient({"url": url})
    if kind == "avro":
        read = AvroDeserializer(client, open(more[0]).read() if more else None)
    else:
        pool = descriptor_pool.DescriptorPool()
        for file in descriptor_pb2.FileDescriptorSet.FromString(open(more[0], "rb").read()).file:
            pool.Add(file)
        message = message_factory.GetMessageClass(pool.FindMessageTypeByName("io.strayd.v1.Anomaly"))
        deserialise = ProtobufDeserializer(message, {"use.deprecated.format": False})
        read = lambda payload, context: plain(deserialise(payload, context))
    context = SerializationContext(topic, MessageField.VALUE)
    for line in sys.stdin:
        print(json.dumps(read(bytes.fromhex(line), context), default=text))


main()
