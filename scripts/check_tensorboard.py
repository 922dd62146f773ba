"""Kills a smoke run twice and reads its event files with EventAccumulator."""

import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

OPTIONS = ["--preset", "smoke", "--epochs", "4", "--batch-size", "16", "--fid-every", "2", "--seeds", "2", "--samples", "64"]


def kill_when(command, log, words):
    """Starts a command and kills it where its log has the words as often as asked."""
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        text = log.read_text() if log.exists() else ""
        if all(text.count(word) >= times for word, times in words):
            process.send_signal(signal.SIGKILL)
        time.sleep(0.002)
    assert process.returncode == -signal.SIGKILL, "it ended before it was killed"


def curves(run):
    """Steps and values by folder and tag, and the steps of pictures."""
    found = {}
    for folder in sorted((run / "tensorboard").iterdir()):
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
        events.Reload()
        for tag in events.Tags()["scalars"]:
            found[folder.name, tag] = [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["images"]:
            found[folder.name, "picture: " + tag] = [
                (event.step, event.encoded_image_string) for event in events.Images(tag)
            ]
    return found


def main():
    binary = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder, "whole"), Path(folder, "killed")
        subprocess.run([binary, *OPTIONS, "--out", whole], check=True, stderr=subprocess.DEVNULL)
        log = killed / "log.txt"
        kill_when([binary, *OPTIONS, "--out", killed], log, [("epoch 2: training", 1)])
        resume = [binary, "--resume", killed]
        kill_when(resume, log, [("seed 2: FID", 4)])
        subprocess.run(resume, check=True, stderr=subprocess.DEVNULL)
        expected, found = curves(whole), curves(killed)
        sessions = {f.name: len(list(f.iterdir())) for f in sorted((killed / "tensorboard").iterdir())}

    print(f"event files: {sessions}")
    print(f"{'':9} {'tag':36} {'points':>6} {'steps':>12}")
    for (name, tag), points in found.items():
        steps = [step for step, _ in points]
        assert len(set(steps)) == len(steps), f"{tag}: a step twice: {steps}"
        print(f"{name:9} {tag:36} {len(points):6} {min(steps):5} to {max(steps):3}")
    assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
    differ = [tag for tag in found if tag[1] != "images_per_second" and found[tag] != expected[tag]]
    assert not differ, f"not as the run that nobody disturbed: {differ}"
    print(f"{len(found)} tags, all as in the run that nobody disturbed")


main()
