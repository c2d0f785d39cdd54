"""Which media type is asked for, and for how long that is remembered."""

from sidecar.dicomweb.media_types import DICOM_JSON, PLAIN_JSON
from sidecar.pacs.dialects import NEITHER_SECONDS, REMEMBERED_SECONDS, JsonType
from tests.common.peer import Clock


def test_what_an_archive_knows_is_remembered_for_a_while() -> None:
    clock = Clock()
    kept = JsonType(clock)
    assert kept.accept == DICOM_JSON
    assert kept.instead(DICOM_JSON, 200) is None
    assert kept.instead(DICOM_JSON, 406) == PLAIN_JSON
    kept.learn(PLAIN_JSON, 200)
    assert kept.accept == PLAIN_JSON
    clock.now += REMEMBERED_SECONDS
    assert kept.accept == DICOM_JSON


def test_an_archive_that_has_learned_the_other_one_is_asked_for_it() -> None:
    kept = JsonType(Clock())
    kept.learn(PLAIN_JSON, 204)
    assert kept.instead(PLAIN_JSON, 415) == DICOM_JSON
    kept.learn(DICOM_JSON, 200)
    assert kept.accept == DICOM_JSON


def test_what_refuses_both_is_left_alone_for_a_while() -> None:
    clock = Clock()
    kept = JsonType(clock)
    kept.learn(PLAIN_JSON, 406)
    assert kept.accept == DICOM_JSON
    assert kept.instead(DICOM_JSON, 406) is None
    clock.now += NEITHER_SECONDS
    assert kept.instead(DICOM_JSON, 406) == PLAIN_JSON


def test_a_busy_archive_teaches_nothing() -> None:
    kept = JsonType(Clock())
    for status in (429, 500, 503):
        kept.learn(PLAIN_JSON, status)
    assert kept.instead(DICOM_JSON, 406) == PLAIN_JSON
