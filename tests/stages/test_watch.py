import pytest

from conftest import QuietWatch
from pocketclip.errors import UserError
from pocketclip.stages.watch import SILENT, BrokenItems


def test_each_message_is_new_once() -> None:
    broken = BrokenItems(100, 0.5)
    assert broken.add(["a", "b"]) == ["a", "b"]
    assert broken.add(["b", "c"]) == ["c"]
    assert broken.add(["a", "b", "c"]) == []
    assert list(broken.messages) == ["a", "b", "c"]


def test_a_message_given_twice_at_once_is_new_once() -> None:
    assert BrokenItems(100, 0.5).add(["a", "b", "a"]) == ["a", "b"]


def test_nothing_broken_is_nothing_new() -> None:
    assert BrokenItems(10, 0.0).add([]) == []


@pytest.mark.parametrize(
    ("num_samples", "share", "allowed"),
    [
        (10, 0.0, 0),
        (10, 0.1, 5),  # few of them say nothing, unless they are most of the data
        (11, 0.1, 5),
        (150, 0.01, 19),
        (1000, 0.01, 19),
        (1900, 0.01, 19),
        (2500, 0.01, 25),
        (100, 0.25, 25),
        (3, 1.0, 3),
    ],
)
def test_a_few_items_and_as_many_as_the_share_allows_may_be_broken(
    num_samples: int, share: float, allowed: int
) -> None:
    broken = BrokenItems(num_samples, share)
    for number in range(allowed):
        broken.add([f"item {number}"])
    assert len(broken.messages) == allowed
    if allowed < num_samples:
        with pytest.raises(UserError, match=f"^{allowed + 1} of {num_samples} items are broken"):
            broken.add(["one more"])


def test_rounding_does_not_forbid_what_the_share_allows() -> None:
    BrokenItems(100, 0.29).add([f"item {number}" for number in range(29)])


def test_the_summary_says_how_many_were_left_out() -> None:
    broken = BrokenItems(100, 0.5)
    assert broken.summary() == ""
    broken.add(["a"])
    assert broken.summary() == "1 item was left out."
    broken.add(["b", "c"])
    assert broken.summary() == "3 items were left out."


def test_names_are_shown_on_one_line_and_kept_as_they_are() -> None:
    shown, name = QuietWatch(), "a\nb\x1b[31m\udce9.jpg: empty."
    broken = BrokenItems(2, 0.4, watch=shown)
    broken.add([name])
    assert shown.notes == [r"left out: a\nb\x1b[31m\udce9.jpg: empty."]
    assert list(broken.messages) == [name]
    with pytest.raises(UserError, match=r"a\\nb\\x1b"):
        broken.add(["other"])


def test_a_repeated_message_does_not_count_towards_the_limit() -> None:
    broken = BrokenItems(10, 0.1)
    for _ in range(5):
        broken.add(["item 3"])
    assert len(broken.messages) == 1


def test_the_error_names_the_share_the_cure_and_the_first_items() -> None:
    with pytest.raises(UserError) as caught:
        BrokenItems(400, 0.05).add([f"item {number}: empty." for number in range(21)])
    message = str(caught.value)
    assert message.startswith("21 of 400 items are broken, more than the allowed share of 5.0%.")
    assert "--set data.max_broken_share=SHARE" in message
    shown = [line.strip() for line in message.splitlines()[1:]]
    assert shown == [f"item {number}: empty." for number in range(5)]


def test_the_cure_may_be_an_option_of_its_own() -> None:
    with pytest.raises(UserError, match="allow more with --max-broken-share=SHARE"):
        BrokenItems(2, 0.0, setting="--max-broken-share").add(["item 0"])
    with pytest.raises(UserError, match="allow more with --max-broken-share=SHARE and --resume"):
        BrokenItems(2, 0.0, setting="--max-broken-share", again="--resume").add(["item 0"])


def test_each_new_item_is_named_once_and_the_rest_is_passed_on() -> None:
    shown = QuietWatch()
    broken = BrokenItems(10, 0.5, watch=shown)
    broken.work("reading images", 2, 10, ["a.jpg: damaged"])
    broken.work("reading images", 4, 10, ["a.jpg: damaged", "b.jpg: empty"])
    broken.note("a word")
    assert shown.notes == ["left out: a.jpg: damaged", "left out: b.jpg: empty", "a word"]
    assert shown.stages == ["reading_images 2/10", "reading_images 4/10"]


def test_without_a_number_of_samples_each_work_is_counted_against_its_own_total() -> None:
    broken = BrokenItems(None, 0.1)
    broken.work("reading a", 10, 10, ["a: damaged"])
    broken.work("reading b", 300, 300, [f"b{number}: damaged" for number in range(30)])
    with pytest.raises(UserError, match=r"^6 of 10 items are broken"):
        broken.work("reading a", 10, 10, [f"a{number}: damaged" for number in range(5)])


def test_silence_takes_everything() -> None:
    SILENT.work("x", 1, 2, ["broken"])
    SILENT.step("x", 1, 2, 3.0, {"loss": 1.0})
    SILENT.note("x")
