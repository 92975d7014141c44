"""The log of a run, and how a resumed run takes it up."""

import json

from PIL import Image

from refseg.training.monitor import LOG, Monitor, time_text


def lines(folder):
    return [json.loads(line) for line in (folder / LOG).read_text().splitlines()]


def test_a_resumed_log_goes_on_after_its_checkpoint_and_forgets_what_was_cut(tmp_path):
    monitor = Monitor(tmp_path, 10, 0, True, False)
    for step in (2, 4, 6):
        monitor.record("train", step, {"losses": {"loss": step / 10}})
    monitor.close()
    with (tmp_path / LOG).open("a") as handle:
        handle.write('{"kind": "train", "st')
    monitor = Monitor(tmp_path, 10, 4, True, False)
    monitor.record("train", 6, {"losses": {"loss": 9.0}})
    monitor.close()
    assert [(line["step"], line["losses"]["loss"]) for line in lines(tmp_path)] == [(2, 0.2), (4, 0.4), (6, 9.0)]


def test_only_the_first_process_writes(tmp_path):
    monitor = Monitor(tmp_path / "run", 10, 0, False, True)
    monitor.record("train", 1, {"loss": 1.0})
    monitor.say("hello")
    monitor.picture("answers", 1, Image.new("RGB", (4, 4)))
    monitor.advance(1, 0.5, 3.0)
    monitor.close()
    assert not (tmp_path / "run").exists()


def test_numbers_and_pictures_reach_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monitor = Monitor(tmp_path, 10, 0, True, True)
    monitor.record("train", 3, {"losses": {"mask": 0.5}, "rate": 0.1, "name": "text", "flag": True})
    monitor.picture("answers", 3, Image.new("RGB", (8, 4), (255, 0, 0)))
    monitor.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert sorted(events.Tags()["scalars"]) == ["train/losses/mask", "train/rate"]
    assert [(event.step, event.value) for event in events.Scalars("train/losses/mask")] == [(3, 0.5)]
    assert events.Tags()["images"] == ["answers"]
    with Image.open(tmp_path / "samples" / "answers-0000003.png") as picture:
        assert picture.size == (8, 4)


def test_durations_read_as_clocks():
    assert [time_text(seconds) for seconds in (0.0, 42.9, 125.0, 7509.0)] == ["0:00", "0:42", "2:05", "2:05:09"]
