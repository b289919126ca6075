"""The server as a process, and the unmodified client that finds it through HF_ENDPOINT."""

import os
import signal
import socket
import subprocess
import sys

import pytest
from faults import FaultyHub

from hubdelta.hub_server import LocalHub, serve, server
from hubdelta.schemas.errors import ListeningError, UsageError

SERVE = """
import sys
from pathlib import Path
from hubdelta.hub_server import serve
serve(Path(sys.argv[1]), *sys.argv[2:3])
"""
CLIENT = """
from huggingface_hub import HfApi, hf_hub_download, list_models, model_info, snapshot_download
(model,) = list_models(filter="base_model:adapter:meta/base-1b", expand=["sha"])
assert model_info(model.id).sha == model.sha
assert open(hf_hub_download(model.id, "adapter_config.json")).read().startswith("{")
assert snapshot_download(model.id, revision=model.sha).endswith(model.sha)
assert HfApi().parse_safetensors_file_metadata(model.id, "adapter_model.safetensors").tensors
print(model.id)
"""


@pytest.mark.slow
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_first_line_is_the_url_that_hf_endpoint_needs(folder, tmp_path, host):
    if ":" in host:
        try:
            socket.create_server((host, 0), family=socket.AF_INET6).close()
        except OSError:
            pytest.skip("this machine has no IPv6")
    folder.add_adapter("ada/law")
    command = [sys.executable, "-c", SERVE, str(folder.place), host]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as server:
        try:
            url = server.stdout.readline().decode().strip()
            assert url.startswith("http://")
            environment = {
                name: value for name, value in os.environ.items() if not name.startswith("HF_")
            }
            client = subprocess.run(
                [sys.executable, "-c", CLIENT],
                env=environment | {"HF_ENDPOINT": url, "HF_HOME": str(tmp_path / "home")},
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
            assert (client.stdout, client.returncode) == ("ada/law\n", 0), client.stderr
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(20)
    assert server.returncode != 0


def test_an_address_in_use_is_reported_in_one_line(folder):
    with FaultyHub(folder.place) as hub:
        port = int(hub.url.rpartition(":")[2])
        with pytest.raises(ListeningError, match=rf"port {port}: Address already in use$"):
            serve(folder.place, port=port)
    with pytest.raises(ListeningError, match="99999"):
        serve(folder.place, port=99999)


def test_a_folder_that_is_a_repository_says_which_to_serve(folder, tmp_path, monkeypatch, caplog):
    adapter = folder.add_adapter("ada/law")
    (adapter / ".hub.yaml").write_text("downloads: 3")  # no settings of a Hub
    with pytest.raises(UsageError, match=f"itself: serve .* is {folder.place} .* called ada/law"):
        serve(adapter)
    with pytest.raises(UsageError, match=f"not as ORG/NAME: serve {folder.place}, .* ada/NAME"):
        serve(adapter.parent)
    served = []
    monkeypatch.setattr(
        server, "_server", lambda *args, **settings: served.append(args) or Silent()
    )
    (tmp_path / "empty").mkdir()
    serve(tmp_path / "empty")
    assert "nothing to serve yet" in caplog.text
    caplog.clear()
    serve(folder.place)
    assert "nothing to serve yet" not in caplog.text
    assert len(served) == 2


class Silent:
    """A server that has nothing to do."""

    def run(self, sockets):
        for listener in sockets:
            listener.close()


def test_two_hubs_run_side_by_side_and_stop(folder):
    with LocalHub(folder.place) as one, LocalHub(folder.place) as other:
        assert one.url != other.url
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(one.url.rpartition(":")[2])), timeout=2)
