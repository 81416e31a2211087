"""Plays the Hugging Face hub and the store behind it, on two ports of this machine: hub.py FOLDER

FOLDER/models/ORGANISATION/NAME and FOLDER/datasets/... are repositories: their files, and what `.hub` says
of them, {"private": true}, {"gated": true}, {"listing": {...}} (merged into what the API lists), {"bare": true} (a
listing without sizes and checksums). Files of at least 1000 bytes are LFS files: their addresses lead to the store.
The token that opens private and gated ones is hf_good.

FOLDER/port appears when it listens. FOLDER/log gets a line for each request:
    hub GET /org/name/resolve/... token=yes range=-
FOLDER/faults has lines KIND:ARGUMENT COUNT TEXT; the next COUNT requests with TEXT in "hub GET /path" fail so:
    status:500, cut:BYTES (then the connection ends), wrong:1 (a byte is changed), whole:1 (ranges are ignored),
    longer:1 (bytes behind the end), stall:SECONDS (before the body), drip:SECONDS (after each 64 KiB),
    address:URL (a redirect there), etag:TEXT (in place of the checksum)
Each new content of it begins the counts anew."""

import hashlib
import http.server
import json
import os
import pathlib
import socketserver
import sys
import threading
import time
import urllib.parse

ROOT = pathlib.Path(sys.argv[1]).resolve()
LOCK = threading.Lock()
PORTS = {}
TOKEN = "Bearer hf_good"


def git_sha1(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def sha256(content):
    return hashlib.sha256(content).hexdigest()


class Faults:
    def __init__(self):
        self.seen, self.rest = None, []

    def find(self, request):
        with LOCK:
            path = ROOT / "faults"
            text = path.read_text() if path.exists() else ""
            if text != self.seen:
                self.seen, self.rest = text, [line.split(" ", 2) for line in text.splitlines() if line]
            for fault in self.rest:
                if int(fault[1]) > 0 and fault[2] in request:
                    fault[1] = str(int(fault[1]) - 1)
                    kind, _, argument = fault[0].partition(":")
                    return kind, argument
        return None, None


FAULTS = Faults()


class Repository:
    def __init__(self, kind, name):
        self.folder = ROOT / kind / name
        self.name = name
        about = self.folder / ".hub"
        self.about = json.loads(about.read_text()) if about.exists() else {}
        self.files = {}
        for path in sorted(self.folder.rglob("*")):
            if path.is_file() and path.name != ".hub":
                self.files[path.relative_to(self.folder).as_posix()] = path.read_bytes()
        parts = "".join(f"{path} {git_sha1(content)}\n" for path, content in self.files.items())
        self.commit = hashlib.sha1(parts.encode()).hexdigest()

    def revision(self, name):
        return self.commit if name in ("main", "refs/pr/1", "v1.0", self.commit) else None

    def entries(self):
        for path, content in self.files.items():
            pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256(content)}\nsize {len(content)}\n"
            yield path, content, pointer.encode() if len(content) >= 1000 else None

    def listing(self):
        siblings = []
        for path, content, pointer in self.entries():
            entry = {"rfilename": path, "size": len(content), "blobId": git_sha1(pointer or content)}
            if pointer:
                entry["lfs"] = {"sha256": sha256(content), "size": len(content), "pointerSize": len(pointer)}
            siblings.append({"rfilename": path} if self.about.get("bare") else entry)
        return {"_id": "0", "id": self.name, "modelId": self.name, "sha": self.commit, "private": False, "tags": [],
                "downloads": 0, "likes": 0, "siblings": siblings, **self.about.get("listing", {})}

    def tree(self):
        entries = []
        for path, content, pointer in self.entries():
            entry = {"type": "file", "path": path, "size": len(content), "oid": git_sha1(pointer or content)}
            if pointer:
                entry["lfs"] = {"oid": sha256(content), "size": len(content), "pointerSize": len(pointer)}
            entries.append(entry)
        return entries


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    side = "hub"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        request = f"{self.side} {self.command} {self.path}"
        token = "yes" if self.headers.get("Authorization") else "no"
        with LOCK, open(ROOT / "log", "a") as log:
            log.write(f"{request} token={token} range={self.headers.get('Range', '-')}\n")
        self.kind, self.argument = FAULTS.find(request)
        try:
            self.answer()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def answer(self):
        if self.kind == "status":
            headers = {"Retry-After": "1"} if self.argument == "429" else {}
            return self.refuse(int(self.argument), "", "Something is wrong", headers)
        if self.kind == "address":
            return self.send(302, b"", {"Location": self.argument})
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        if self.side == "store":
            return self.store(path)
        parts = path.strip("/").split("/")
        if parts[0] == "api":
            return self.api(parts[1:])
        kind = parts.pop(0) if parts[0] == "datasets" else "models"
        if "resolve" in parts:
            at = parts.index("resolve")
            return self.resolve(kind, "/".join(parts[:at]), parts[at + 1], "/".join(parts[at + 2:]))
        self.refuse(404, "", "Not found")

    def api(self, parts):
        kind = parts.pop(0)
        if not parts:
            names = [f"{path.parent.name}/{path.name}" for path in (ROOT / kind).glob("*/*")]
            return self.send_json([{"id": name} for name in names])
        for size in (2, 1):
            name, rest = "/".join(parts[:size]), parts[size:]
            if rest and rest[0] in ("revision", "tree", "refs"):
                break
        repository = self.repository(kind, name)
        if not repository:
            return None
        if rest[0] == "refs":
            return self.send_json({"branches": [{"name": "main"}], "tags": [{"name": "v1.0"}]})
        if not repository.revision(urllib.parse.unquote("/".join(rest[1:]))):
            return self.refuse(404, "RevisionNotFound", "Invalid rev id: " + rest[1])
        self.send_json(repository.listing() if rest[0] == "revision" else repository.tree())

    def repository(self, kind, name):
        exists = name.count("/") <= 1 and (ROOT / kind / name).is_dir()
        repository = Repository(kind, name) if exists else None
        knows = self.headers.get("Authorization") == TOKEN
        if not repository or (repository.about.get("private") and not knows):
            if self.headers.get("Authorization") not in (None, TOKEN):
                return self.refuse(401, "", "Invalid credentials in Authorization header: " + self.headers["Authorization"])
            return self.refuse(404 if knows else 401, "RepoNotFound", "Repository not found")
        return repository

    def resolve(self, kind, name, revision, path):
        repository = self.repository(kind, name)
        if not repository:
            return None
        if repository.about.get("gated") and self.headers.get("Authorization") != TOKEN:
            status = 403 if self.headers.get("Authorization") else 401
            return self.refuse(status, "GatedRepo", f"Access to model {name} is restricted.")
        if not repository.revision(revision):
            return self.refuse(404, "RevisionNotFound", "Invalid rev id: " + revision)
        if path not in repository.files:
            return self.refuse(404, "EntryNotFound", "Entry not found")
        content = repository.files[path]
        headers = {"X-Repo-Commit": repository.commit, "Accept-Ranges": "bytes"}
        if len(content) < 1000:
            return self.send_file(content, {**headers, "ETag": f'"{self.etag(git_sha1(content))}"'})
        digest = sha256(content)
        location = f"http://127.0.0.1:{PORTS['store']}/{kind}/{name}/{urllib.parse.quote(path)}?signature=secret"
        self.send(302, b"", {**headers, "X-Linked-ETag": f'"{self.etag(digest)}"', "X-Linked-Size": str(len(content)),
                             "ETag": '"other"', "Location": location})

    def etag(self, digest):
        return self.argument if self.kind == "etag" else digest

    def store(self, path):
        self.send_file((ROOT / path.lstrip("/")).read_bytes(), {"ETag": '"of-the-store"', "Accept-Ranges": "bytes"})

    def send_file(self, content, headers):
        if self.kind == "wrong":
            middle = len(content) // 2
            content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1:]
        if self.kind == "longer":
            content += b"more"
        wanted = self.headers.get("Range", "")
        if wanted.startswith("bytes=") and self.kind != "whole":
            first = int(wanted[6:].split("-")[0])
            if first >= len(content):
                return self.send(416, b"", {"Content-Range": f"bytes */{len(content)}"})
            headers = {**headers, "Content-Range": f"bytes {first}-{len(content) - 1}/{len(content)}"}
            return self.send(206, content[first:], headers)
        self.send(200, content, headers)

    def send_json(self, value):
        self.send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def refuse(self, status, code, message, headers=None):
        told = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {}), **(headers or {})}
        self.send(status, json.dumps({"error": message}).encode(), {**told, "Content-Type": "application/json"})

    def send(self, status, body, headers):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.kind == "stall":
            time.sleep(float(self.argument))
        step = 1 << 16
        limit = int(self.argument) if self.kind == "cut" else len(body)
        for begin in range(0, limit, step):
            self.wfile.write(body[begin:min(begin + step, limit)])
            if self.kind == "drip":
                time.sleep(float(self.argument))
        if self.kind == "cut":
            self.wfile.flush()
            self.close_connection = True


class Store(Handler):
    side = "store"


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True


def main():
    for side, handler in (("hub", Handler), ("store", Store)):
        server = Server(("127.0.0.1", 0), handler)
        PORTS[side] = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
    (ROOT / "port.new").write_text(f"{PORTS['hub']}\n")
    os.rename(ROOT / "port.new", ROOT / "port")
    parent = os.getppid()
    while os.getppid() == parent:  # goes with the test
        time.sleep(0.2)


main()
