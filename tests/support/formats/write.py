"""Writes records with confluent-kafka's own serialisers: a JSON line each, with the payload and the values it holds.

    write.py URL [NAME:PASSWORD CA_FILE]
"""

import json
import random
import struct
import sys

from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
import msgpack

CONTEXT = SerializationContext("readings", MessageField.VALUE)
PUMP = '{"type": "record", "name": "Pump", "namespace": "plant", "fields": [{"name": "load", "type": "float"}]}'
FIRST = {"type": "record", "name": "Reading", "fields": [
    {"name": "temp", "type": ["null", "double"], "default": None},
    {"name": "flow", "type": "float"},
    {"name": "n", "type": "long"},
    {"name": "on", "type": "boolean"}]}
# A writer of tomorrow: `n` is gone, `rpm` has come.
SECOND = {"type": "record", "name": "Reading", "fields": FIRST["fields"][:2] + [
    {"name": "rpm", "type": "int", "default": 0}, FIRST["fields"][3]]}


def proto_class():
    """A message of `FIRST`'s fields, and a message in a message, as protoc would make it of proto3."""
    file = descriptor_pb2.FileDescriptorProto(name="reading.proto", syntax="proto3")
    file.message_type.add(name="Other")
    reading = file.message_type.add(name="Reading")
    types = {"temp": 1, "flow": 2, "n": 3, "on": 8}
    for number, (name, kind) in enumerate(types.items(), 1):
        reading.field.add(name=name, number=number, type=kind, label=1)
    reading.oneof_decl.add(name="_temp")
    reading.field[0].oneof_index, reading.field[0].proto3_optional = 0, True
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("Reading"))


def single(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def record(rng, fields):
    values = {"temp": rng.choice([None, rng.gauss(0, 1e6), 0.1]), "flow": single(rng.gauss(0, 1)),
              "n": rng.randrange(-2**63, 2**63), "on": rng.random() < 0.5, "rpm": rng.randrange(5000)}
    return {name: values[name] for name in fields}


def main():
    settings = {"url": sys.argv[1]}
    if len(sys.argv) > 2:
        settings |= {"basic.auth.user.info": sys.argv[2], "ssl.ca.location": sys.argv[3]}
    client, rng = SchemaRegistryClient(settings), random.Random(7)
    say = lambda kind, payload, values: print(json.dumps({"kind": kind, "payload": payload.hex(), "values": values}))
    for schema in (FIRST, SECOND):
        serialise = AvroSerializer(client, json.dumps(schema))
        for _ in range(50):
            values = record(rng, [field["name"] for field in schema["fields"]])
            say("avro", serialise(values, CONTEXT), values)
    client.register_schema("pump", Schema(PUMP, "AVRO"))
    outer = {"type": "record", "name": "Nested", "fields": [{"name": "pump", "type": "plant.Pump"}]}
    reference = SchemaReference("plant.Pump", "pump", 1)
    serialise = AvroSerializer(client, Schema(json.dumps(outer), "AVRO", [reference]))
    say("avro", serialise({"pump": {"load": 0.25}}, CONTEXT), {"pump.load": 0.25})
    message = proto_class()
    serialise = ProtobufSerializer(message, client, {"use.deprecated.format": False})
    for _ in range(50):
        values = record(rng, ["temp", "flow", "n", "on"])
        say("protobuf", serialise(message(**values), CONTEXT), values)
    for _ in range(50):
        values = record(rng, ["temp", "flow", "n", "on"])
        say("msgpack", msgpack.packb(values), values)


main()
