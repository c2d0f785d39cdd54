"""Values that the chart's schema refuses."""

from typing import Any

BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"config": {"server": {"admin_host": "127.0.0.1"}}}, "admin_host is the pod's loopback"),
    ({"config": {"server": {"host": "::1"}}}, "server.host is the pod's loopback"),
    ({"config": {"tokens": {"client": {"method": "client_secret_post", "client_id": "a",
                                       "client_secret": "x"}}}},
     "readable"),
    ({"config": {"pacs": {"url": "http://a/b", "auth": {"method": "bearer", "token": "x"}}}},
     "readable"),
    ({"config": {"tokens": {"client": {"method": "none"},
                            "cache": {"url": "redis://a", "password": "x",
                                      "key_file": "/run/secrets/imaging-sidecar/key"}}}},
     "readable"),
    ({"secrets": []}, "below /run/secrets/imaging-sidecar, but secrets has no imaging-sidecar"),
    ({"config": {"audit": {"sink": "fhir", "repository": {"url": "http://a/b"},
                           "spool": {"folder": "/var/spool/smart-imaging-sidecar/a"}}}},
                           "read-only"),
    ({"config": {"audit": {"sink": "fhir", "repository": {"url": "http://a/b"},
                           "spool": {"folder": "/elsewhere"}}}, "spool": {"enabled": True}},
                           "read-only"),
    *(({"config": {"server": {"public_url": f"https://a.example.org/{path}"}}}, says)
      for path, says in (("fhir", "public_url has the path /fhir"), ("wado-rs/x", "/wado-rs/x: letters"),
                         ("a%20b", "letters, digits"), ("a//b", "letters, digits"),
                         ("a/../b", "letters, digits"), ("..", "letters, digits"))),
    ({"config": {"server": {"workers": "auto"}}}, "a worker for each CPU of the node"),
    ({"config": {"fhir": {"catalog": {"store": "sqlite", "file": "/data/catalog.sqlite"}}}}, "read-only"),
]  # fmt: skip
