"""A schema registry in memory, with as much of Confluent's API as its own client and strayd ask for.

    registry.py PORT [--user NAME:PASSWORD] [--certificate FILE] [--refuse SUBJECT]

A subject that is refused takes no schema, as if none were compatible with what it holds.

Prints a line when it listens, and ends when its standard input does.
"""

import argparse
import base64
import json
import re
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SCHEMAS = []
SUBJECTS = {}


def version(subject, number):
    return dict(SCHEMAS[SUBJECTS[subject][number - 1] - 1], subject=subject, version=number,
                id=SUBJECTS[subject][number - 1])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    credentials = None
    refused = None

    def log_message(self, *_):
        pass

    def answer(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def serve(self, body):
        if self.credentials and self.headers.get("Authorization") != self.credentials:
            return 401, {"error_code": 401, "message": "who are you?"}
        path = self.path.split("?")[0]
        if path == "/schemas/types":
            return 200, ["AVRO", "JSON", "PROTOBUF"]
        if found := re.fullmatch(r"/schemas/ids/(\d+)", path):
            known = 0 < int(found[1]) <= len(SCHEMAS)
            return (200, SCHEMAS[int(found[1]) - 1]) if known else (404, {"error_code": 40403, "message": "Schema not found"})
        if found := re.fullmatch(r"/subjects/([^/]+)/versions/(\d+)", path):
            return 200, version(found[1], int(found[2]))
        if (found := re.fullmatch(r"/subjects/([^/]+)(/versions)?", path)) and body is not None:
            schema = {key: body[key] for key in ("schema", "schemaType", "references") if body.get(key)}
            if schema.get("schemaType") == "AVRO":
                del schema["schemaType"]
            if not found[2]:
                known = schema in SCHEMAS and SCHEMAS.index(schema) + 1 in SUBJECTS.get(found[1], [])
                if not known:
                    return 404, {"error_code": 40403, "message": "Schema not found"}
            elif found[1] == self.refused:
                return 409, {"error_code": 409, "message": "Schema being registered is incompatible with an earlier schema"}
            ids = SUBJECTS.setdefault(found[1], [])
            if schema not in SCHEMAS:
                SCHEMAS.append(schema)
            if SCHEMAS.index(schema) + 1 not in ids:
                ids.append(SCHEMAS.index(schema) + 1)
            number = ids.index(SCHEMAS.index(schema) + 1) + 1
            return 200, version(found[1], number)
        return 404, {"error_code": 404, "message": "not found"}

    def do_GET(self):
        self.answer(*self.serve(None))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer(*self.serve(body))


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("port", type=int)
    arguments.add_argument("--user")
    arguments.add_argument("--certificate")
    arguments.add_argument("--refuse")
    options = arguments.parse_args()
    Handler.refused = options.refuse
    if options.user:
        Handler.credentials = "Basic " + base64.b64encode(options.user.encode()).decode()
    server = ThreadingHTTPServer(("127.0.0.1", options.port), Handler)
    server.daemon_threads = True
    if options.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print("listening", flush=True)
    sys.stdin.read()


main()
