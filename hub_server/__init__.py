"""A read-only Hub that serves a folder of repositories to the unmodified huggingface_hub client.

    DIR/.hub.yaml                        who may see private and gated repositories
    DIR/org/name/…                       a repository: model card, configurations, weights
    DIR/org/name/.hub.yaml               metadata that its files cannot hold
    DIR/org/name/.revisions/<commit>/…   an older commit, made by `keep_revision`

Other metadata is read from the files as on the Hub: the card's front matter gives tags and bases,
`adapter_config.json` the relation "adapter" and `config.peft`. A repository's `.hub.yaml` holds
any of: gated (auto, manual, true, false), private, disabled, downloads, downloadsAllTime, likes,
trendingScore, createdAt, lastModified, renamed_to (org/name: the old name then answers 307), sha
(the commit to show, for a copy that should keep its commit id; by default a hash of the content).
DIR's holds tokens:

    tokens:
      hf_team: [org, other-org/one-model]   # the private and gated repositories it opens
      hf_admin: "*"

Anonymous callers see neither private repositories nor the files of gated ones. A repository whose
`.hub.yaml` has a mistake is not served, since it might have said `private`; the log says so.

Dotted names at the level of DIR and org, `.hub.yaml`, `.revisions`, `.git` and `.cache` are never
served. DIR/org and DIR/org/name may be links, since whoever writes to DIR decides what it serves;
links inside a repository are followed only to files of the same repository.

app.py          the routes
server.py, link.py      the running server; a simulated slow link
access.py       who is calling, and what they may see
listing.py, entries.py  listings; a repository as JSON
repository.py, snapshot.py, tree.py, blobs.py   repositories, commits, files, contents
metadata.py, card.py, settings.py   what a repository's files declare, and its .hub.yaml
errors.py, wire.py      the Hub's error responses; common headers and request records
"""

from hubdelta.hub_server.app import create_app
from hubdelta.hub_server.repository import keep_revision
from hubdelta.hub_server.server import LocalHub, serve
from hubdelta.hub_server.wire import RequestRecord

__all__ = [
    "LocalHub",
    "RequestRecord",
    "create_app",
    "keep_revision",
    "serve",
]
