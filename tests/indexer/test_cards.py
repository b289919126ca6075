"""The text of an adapter's model card comes with it, and never stands in its way."""

import os

import pytest
from faults import Fault
from hubs import BASE, add_adapter, add_base

from hubdelta.crawler.describe import describe
from hubdelta.indexer.adapters.loading import Obtainer
from hubdelta.indexer.adapters.local import describe_folder
from hubdelta.indexer.adapters.pending import Pending
from hubdelta.schemas.keys import AdapterName

CARD = "---\nlicense: mit\n---\n# Sonnets\n\nOf fourteen lines.\n"
TEXT = "Sonnets Of fourteen lines."


@pytest.fixture
def folder(tmp_path, tiny_base):
    hub = tmp_path / "hub"
    add_base(hub, tiny_base)
    (add_adapter(hub, tiny_base, "a/poems") / "README.md").write_text(CARD)
    whole = add_base(hub, tiny_base, "a/whole")
    (whole / "README.md").write_text(CARD.replace("license: mit", f"base_model: {BASE}"))
    return hub


@pytest.fixture
def obtainer(hub, base, tmp_path):
    return Obtainer(hub, base, tmp_path / "downloads", max_bytes=10**9)


def obtain(obtainer, row):
    inspected = obtainer.inspect(Pending(row, 1))
    obtainer.fetch(inspected)
    return inspected, obtainer.read(inspected)


@pytest.mark.parametrize("name", ["a/poems", "a/whole"])
def test_the_card_comes_with_an_adapter_and_with_a_finetune(name, obtainer, hub):
    row = describe(hub, AdapterName(name), BASE)[0]
    inspected, adapter = obtain(obtainer, row)
    assert inspected.card == adapter.card == TEXT


def test_the_bytes_of_a_card_count_as_needed(obtainer, hub, folder):
    with_card = obtain(obtainer, describe(hub, AdapterName("a/poems"), BASE)[0])[0]
    (folder / "a/poems/README.md").write_text(CARD + "x" * 1000)
    longer = obtain(obtainer, describe(hub, AdapterName("a/poems"), BASE)[0])[0]
    assert longer.needed_bytes == with_card.needed_bytes + 1000


def test_an_adapter_whose_card_cannot_be_had_is_embedded_all_the_same(obtainer, hub, local_hub):
    row = describe(hub, AdapterName("a/poems"), BASE)[0]
    local_hub.faults.add(Fault("*README.md*", status=503, times=None))
    assert obtain(obtainer, row)[1].card is None


@pytest.fixture
def local_row(folder):
    where = folder / "a/poems"
    return describe_folder(AdapterName(where.as_posix()), BASE, run_id="r")


def test_a_local_folder_has_its_card_too(obtainer, local_row):
    inspected, adapter = obtain(obtainer, local_row)
    assert adapter.card == TEXT
    assert inspected.needed_bytes == 0


def test_a_local_card_may_be_missing_or_no_file(obtainer, local_row, folder):
    card = folder / "a/poems/README.md"
    card.unlink()
    assert obtain(obtainer, local_row)[1].card is None
    os.mkfifo(card)
    assert obtain(obtainer, local_row)[1].card is None
    card.unlink()
    card.mkdir()
    assert obtain(obtainer, local_row)[1].card is None
