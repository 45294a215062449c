"""Writes records with confluent-kafka's own serialisers: a JSON line each, with the payload and the values it holds.

    write.py URL [NAME:PASSWORD CA_FILE]
"""

import json
import random
import struct
import sys

from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
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


def proto_classes():
    """Two versions of a message, as protoc would make them of proto3. In the second `n` is gone, `rpm` has come, and so has
    `pump` of an imported file; and the message stands inside another one."""
    pool = descriptor_pool.DescriptorPool()
    plant = descriptor_pb2.FileDescriptorProto(name="plant.proto", package="plant", syntax="proto3")
    plant.message_type.add(name="Pump").field.add(name="load", number=1, type=2, label=1)
    pool.Add(plant)
    for version, types in (1, {"temp": 1, "flow": 2, "n": 3, "on": 8}), (2, {"temp": 1, "flow": 2, "rpm": 5, "on": 8}):
        file = descriptor_pb2.FileDescriptorProto(name=f"reading{version}.proto", syntax="proto3")
        file.message_type.add(name=f"Other{version}")
        outer = file.message_type.add(name=f"Reading{version}")
        reading = outer if version == 1 else outer.nested_type.add(name="Inner")
        for name, kind in types.items():
            number = 1 + ["temp", "flow", "n", "on", "rpm"].index(name)
            reading.field.add(name=name, number=number, type=kind, label=1)
        reading.oneof_decl.add(name="_temp")
        reading.field[0].oneof_index, reading.field[0].proto3_optional = 0, True
        if version == 2:
            file.dependency.append("plant.proto")
            reading.field.add(name="pump", number=9, type=11, label=1, type_name=".plant.Pump")
        pool.Add(file)
        name = f"Reading{version}" + (".Inner" if version == 2 else "")
        yield message_factory.GetMessageClass(pool.FindMessageTypeByName(name)), list(types)


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
    for message, names in proto_classes():
        serialise = ProtobufSerializer(message, client, {"use.deprecated.format": False})
        for i in range(50):
            values = record(rng, names)
            inner = {"pump": {"load": 0.25 * i}} if "rpm" in names and i % 2 else {}
            payload = serialise(message(**values, **inner), CONTEXT)
            say("protobuf", payload, values | ({"pump.load": 0.25 * i} if inner else {}))
    for _ in range(50):
        values = record(rng, ["temp", "flow", "n", "on"])
        say("msgpack", msgpack.packb(values), values)


main()
