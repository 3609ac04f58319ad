"""Signed deliveries of pushes, as GitHub sends them."""

import hmac
import json
import socket
import uuid

EVENT = "push"


def payload(repo, ref, before, after, size=7000):
    """The body of a push event of at least about `size` bytes; what fills it is what fills real ones: commits."""
    person = {"name": "Ada", "email": "ada@example.invalid", "username": "ada"}

    def commit(number, sha):
        return {
            "id": sha,
            "tree_id": f"{number:040x}",
            "distinct": True,
            "message": f"Change {number}: the cart shows its price",
            "timestamp": "2026-01-01T12:00:00+00:00",
            "url": f"https://forge.invalid/{repo}/commit/{sha}",
            "author": person,
            "committer": person,
            "added": [],
            "removed": [],
            "modified": [f"src/components/part{number}.jsx", "src/index.jsx"],
        }

    event = {
        "ref": ref,
        "before": before,
        "after": after,
        "created": False,
        "deleted": False,
        "forced": False,
        "base_ref": None,
        "compare": f"https://forge.invalid/{repo}/compare/{before[:12]}...{after[:12]}",
        "repository": {
            "id": 1,
            "name": repo.split("/")[1],
            "full_name": repo,
            "private": False,
            "owner": {"name": repo.split("/")[0], "login": repo.split("/")[0], "id": 2},
            "default_branch": "main",
        },
        "pusher": {"name": "ada", "email": "ada@example.invalid"},
        "sender": {"login": "ada", "id": 3, "type": "User"},
        "commits": [],
        "head_commit": commit(0, after),
    }
    length = len(json.dumps(event))
    while length < size:
        one = commit(len(event["commits"]), f"{len(event['commits']):040x}")
        event["commits"].append(one)
        length += len(json.dumps(one)) + 2
    return json.dumps(event).encode()


def headers(body, secret, delivery=None):
    """What a delivery is sent with, the length included."""
    return {
        "Host": "127.0.0.1",
        "User-Agent": "GitHub-Hookshot/bench",
        "Content-Type": "application/json",
        "X-GitHub-Event": EVENT,
        "X-GitHub-Delivery": delivery or str(uuid.uuid4()),
        "X-Hub-Signature-256": "sha256=" + hmac.digest(secret, body, "sha256").hex(),
        "Content-Length": str(len(body)),
    }


def request(path, body, secret, delivery=None):
    """The whole request in bytes; the connection is closed after it, as forges do."""
    fields = {**headers(body, secret, delivery), "Connection": "close"}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def send(port, raw, patience=10):
    """Sends a request on a connection of its own. Returns the code and the answer's JSON."""
    with socket.create_connection(("127.0.0.1", port), timeout=patience) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(raw)
        reply = bytearray()
        while part := connection.recv(65536):
            reply += part
    head, _, content = bytes(reply).partition(b"\r\n\r\n")
    if not head:
        raise ConnectionError("no answer")
    code = int(head.split(None, 2)[1])
    return code, json.loads(content) if content.startswith(b"{") else {}
