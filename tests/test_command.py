"""The command line as its users meet it: what is printed where, the exit status, and what is refused."""

import csv
import io
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import ROOT, read_one, to_batch

import mnist_digits as md

SAMPLE = str(ROOT / "samples" / "4.png")
MANY = 500  # pictures, from which on several processes read


def facts_of(model, capsys):
    """Return what --model-info prints of a network."""
    assert md.main(["--model-info", "--model", str(model)]) == 0
    return dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())


def run(*arguments):
    command = [sys.executable, str(ROOT / "mnist_digits.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def test_reading_prints_path_text_and_confidence(trained, capsys):
    assert md.main([SAMPLE, "--output", str(trained), "--no-plot"]) == 0
    path, text, confidence = capsys.readouterr().out.rstrip("\n").split("\t")
    assert path == SAMPLE
    assert text.isdigit()
    assert confidence.endswith("%")


def test_json_is_one_object_a_line_with_all_that_was_promised(trained, capsys):
    md.main([SAMPLE, "missing.png", "--json", "--output", str(trained)])
    read, missing = map(json.loads, capsys.readouterr().out.splitlines())
    assert list(read) == ["path", "text", "confidence", "digits", "error", "network"]
    (digit,) = read["digits"]
    assert str(digit["digit"]) == read["text"]
    assert digit["confidence"] == max(digit["probabilities"]) == read["confidence"]
    assert len(digit["box"]) == 4
    assert sum(digit["probabilities"]) == pytest.approx(1, abs=1e-4)
    assert (missing["text"], missing["confidence"], missing["digits"]) == (None, None, [])
    assert missing["error"].startswith("no such file")


def test_csv_has_a_row_for_each_picture(trained, capsys):
    md.main([SAMPLE, "missing.png", "--csv", "--output", str(trained)])
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["path"] for row in rows] == [SAMPLE, "missing.png"]
    assert rows[0]["text"].isdigit()
    assert rows[1]["error"].startswith("no such file")


def test_one_bad_file_does_not_stop_the_others(trained, capsys):
    assert md.main(["missing.png", SAMPLE, "--output", str(trained), "--no-plot"]) == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1
    assert "error: missing.png: no such file; check the path" in err.splitlines()


def test_digits_below_the_wanted_confidence_become_question_marks(trained):
    predict = md.load_network(trained / "mnist-5k.onnx")
    (certain,) = md.read_pictures([SAMPLE], predict, min_confidence=0.0)
    (doubtful,) = md.read_pictures([SAMPLE], predict, min_confidence=certain.confidence + 1e-3)
    assert (certain.text.isdigit(), doubtful.text) == (True, "?")


def test_a_confidence_is_never_rounded_up(capsys):
    samples = [str(path) for path in sorted((ROOT / "samples").glob("*.png"))]
    command = [*samples, "--no-plot", "--min-confidence", "0"]
    assert md.main(command) == 0
    shown = [line.split("\t")[2] for line in capsys.readouterr().out.splitlines()]
    assert md.main([*command, "--json"]) == 0
    for percent, line in zip(shown, capsys.readouterr().out.splitlines(), strict=True):
        confidence = json.loads(line)["confidence"]
        assert percent == f"{min(math.floor(1000 * confidence) / 10, 99.9):.1f}%"
    assert "99.9%" in shown


def test_a_doubtful_digit_is_looked_at_again_and_a_clear_one_is_not():
    batches = []

    def predict(batch):
        batches.append(batch)
        probs = np.full((len(batch), 10), 0.02, np.float32)
        probs[:, 7] = np.where(batch[:, 14, 14, 0] > 0.5, 0.82, 0.98)
        return probs

    page = np.full((140, 400), 255, np.uint8)
    for x, thickness in ((70, 12), (200, -1), (330, 12)):
        cv2.circle(page, (x, 70), 40, 0, thickness)
    reading = read_one(page, predict=predict)
    assert [len(batch) for batch in batches[:2]] == [3, 8]
    assert len(np.unique(batches[1], axis=0)) == 8, "turned, leaning, stretched"
    assert reading.probs[:, 7] == pytest.approx([0.98, 0.82, 0.98])


def test_readings_come_in_the_order_asked_for(trained, tmp_path):
    paths = [str(ROOT / "samples" / f"{digit}.png") for digit in "31415926535897932384626433832795" * 5]
    predict = md.load_network(trained / "mnist-5k.onnx")
    assert [reading.page.path for reading in md.read_pictures(iter(paths), predict)] == paths


@pytest.mark.parametrize("pictures", [1, 5, 12, 61])
def test_the_plot_takes_any_number_of_pictures(pictures, trained, tmp_path, capsys):
    plot = tmp_path / "plot.png"
    assert md.main([SAMPLE] * pictures + ["--output", str(trained), "--plot", str(plot)]) == 0
    assert plot.stat().st_size > 5000
    assert ("first 60 of 61" in capsys.readouterr().err) == (pictures > 60)


def test_until_a_network_is_trained_the_bundled_one_reads(tmp_path, capsys):
    paths = sorted(str(path) for path in (ROOT / "samples").glob("*.[jp]*g"))
    assert md.main([*paths, "--json", "--output", str(tmp_path)]) == 0
    readings = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {reading["network"] for reading in readings} == {str(md.BUNDLED)}
    assert [reading["text"] for reading in readings] == [re.match(r"\d+", Path(path).name)[0] for path in paths]


def test_the_bundled_network_is_small_and_says_what_it_is(capsys):
    assert md.BUNDLED.stat().st_size <= 2e6
    facts = facts_of(md.BUNDLED, capsys)
    assert facts["data"] == "mnist"
    assert float(facts["accuracy"]) >= 0.997
    assert {"network", "epochs", "seed", "parameters", "versions"} <= facts.keys()


def test_the_bundled_network_reads_the_digits_that_are_on_every_machine(data):
    assert np.mean(md.load_network(md.BUNDLED)(to_batch(data.x_test)).argmax(axis=1) == data.y_test) > 0.995


def test_the_bundled_network_is_as_good_as_it_says(mnist_file, capsys):
    data = md.load_data(str(mnist_file))
    accuracy = np.mean(md.load_network(md.BUNDLED)(to_batch(data.x_test)).argmax(axis=1) == data.y_test)
    assert accuracy == pytest.approx(float(facts_of(md.BUNDLED, capsys)["accuracy"]), abs=1e-4)


def test_a_trained_network_says_what_it_is(trained, capsys):
    facts = facts_of(trained / "mnist-5k.onnx", capsys)
    assert (facts["data"], facts["epochs"], facts["seed"]) == ("mnist-5k", "3", "0")
    assert float(facts["accuracy"]) == json.loads((trained / "mnist-5k-metrics.json").read_text())["accuracy"]


@pytest.mark.parametrize("content", [None, b"", b"not a network"])
def test_a_file_that_says_nothing_of_itself_is_told(content, tmp_path, capsys):
    if content is not None:
        (tmp_path / "other.onnx").write_bytes(content)
    assert md.main(["--model-info", "--model", str(tmp_path / "other.onnx")]) == 1
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'other.onnx'}: ")


def test_a_network_trained_here_on_mnist_reads_instead_of_the_bundled_one(tmp_path, capsys):
    (tmp_path / "mnist-5k.onnx").touch()
    assert md.main([SAMPLE, "--json", "--output", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out)["network"] == str(md.BUNDLED)
    shutil.copy(md.BUNDLED, tmp_path / "mnist.onnx")
    assert md.main([SAMPLE, "--json", "--output", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["network"] == str(tmp_path / "mnist.onnx")
    accuracy = float(facts_of(md.BUNDLED, capsys)["accuracy"])
    network = f"{tmp_path / 'mnist.onnx'} ({accuracy:.2%} of the test digits of mnist)"
    assert err == f"reading with {network}; --model FILE chooses another\n"


def test_a_network_that_has_not_learnt_to_read_is_no_reader_unless_named(tmp_path, capsys):
    import onnx

    model = onnx.load(md.BUNDLED)
    onnx.helper.set_model_props(model, {"accuracy": "0.113", "data": "mnist"})
    onnx.save(model, tmp_path / "mnist.onnx")
    assert md.main([SAMPLE, "--output", str(tmp_path), "--no-plot"]) == 0
    untaken, taken = capsys.readouterr().err.splitlines()
    assert "only 11.3% of its test digits" in untaken
    assert taken.startswith("reading with the bundled network")
    assert md.main([SAMPLE, "--model", str(tmp_path / "mnist.onnx"), "--no-plot"]) == 0
    assert "mnist.onnx (11.30% of the test digits of mnist)" in capsys.readouterr().err


def test_options_may_stand_between_pictures(capsys):
    seven = str(ROOT / "samples" / "7.png")
    assert md.main([SAMPLE, "--json", seven]) == 0
    assert [json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()] == ["4", "7"]


@pytest.mark.parametrize("content", [None, b"", b"not a network", b"\x08\x07" * 500])
@pytest.mark.parametrize("suffix", [".onnx", ".keras"])
def test_a_model_that_is_none_is_refused_in_one_sentence(content, suffix, tmp_path, capsys):
    model = tmp_path / f"model{suffix}"
    if content is not None:
        model.write_bytes(content)
    assert md.main([SAMPLE, "--model", str(model)]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"error: {model}: ")
    assert err.count("\n") == 1


REFUSED = {
    "--epochs 5 4.png": "add --train",
    "--no-augment 4.png": "add --train",
    "--model x.onnx": "name the pictures",
    "--train --model x.onnx 4.png": "without --train",
    "--json --csv 4.png": "not allowed with",
    "--plot a.png --no-plot 4.png": "not allowed with",
    "--plot plot.xyz 4.png": "must end in",
    "--model-info 4.png": "combine it with --model or nothing",
    "--model-info --train": "combine it with --model or nothing",
    "--model-info --json": "combine it with --model or nothing",
    "--web 4.png": "leave out pictures",
    "--skip-read read.jsonl": "name them, or - for paths on stdin",
    "--json": "no pictures to read",
    "--explain --one": "no pictures to read",
    "--train --learning-rate 11": "above 0 and up to 10",
    "--host 0.0.0.0 4.png": "add --web",
    "--cluster localhost:8786 --model mine.keras 4.png": "needs an .onnx network",
    "--epochs 0": "a whole number from 1",
    "--min-confidence 2 4.png": "a number from 0 to 1",
    "--network vgg": "invalid choice",
    "--colour 4.png": "unrecognized arguments",
}


@pytest.mark.parametrize("arguments", REFUSED)
def test_what_cannot_go_together_is_refused(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        md.main(arguments.split())
    assert stopped.value.code == 2
    usage, sentence = capsys.readouterr().err.splitlines()
    assert usage.startswith("usage:")
    assert REFUSED[arguments] in sentence


def test_data_that_is_not_there_is_told(tmp_path, capsys):
    assert md.main(["--data", "nowhere.npz", "--output", str(tmp_path)]) == 1
    assert "error: nowhere.npz: no such data" in capsys.readouterr().err


def test_nothing_of_the_users_is_touched_in_the_output_folder(tmp_path):
    (tmp_path / "probe").write_text("precious")
    assert md.main([SAMPLE, "--output", str(tmp_path)]) == 0
    assert (tmp_path / "probe").read_text() == "precious"
    assert {path.name for path in tmp_path.iterdir()} == {"probe", "predictions.png"}


@pytest.mark.parametrize("count", [300, 3000])
def test_a_reader_that_has_enough_ends_it_quietly(count, trained):
    command = [sys.executable, str(ROOT / "mnist_digits.py"), "--no-plot", *[SAMPLE] * count]
    command += ["--model", str(trained / "mnist-5k.onnx")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert re.fullmatch("reading with .*\n", process.stderr.read())


def test_an_output_folder_that_cannot_be_is_told_before_training(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert md.main(["--data", "mnist-5k", "--output", str(tmp_path / "file" / "output")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_reading_never_imports_tensorflow(trained):
    code = (
        "import sys, mnist_digits; status = mnist_digits.main(sys.argv[1:]);"
        "sys.exit(status or any(name in sys.modules for name in ('tensorflow', 'keras', 'sklearn', 'scipy')))"
    )
    command = [sys.executable, "-c", code, SAMPLE, "--output", str(trained)]
    assert subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 0


def test_help_and_version_need_no_more_than_numpy_and_opencv():
    assert "--min-confidence" in run("--help").stdout
    assert run("--version").stdout == f"mnist_digits.py {md.__version__}\n"


@pytest.mark.flaky(reruns=1)
def test_ctrl_c_ends_with_130_and_keeps_the_earlier_network(small, tmp_path):
    import signal
    import time

    if sys.platform == "win32":
        pytest.skip("Windows has no SIGINT to send to one process")
    earlier = tmp_path / "small.onnx"
    earlier.write_text("earlier")
    command = [sys.executable, str(ROOT / "mnist_digits.py"), "--data", small, "--network", "mlp", "--epochs", "1000"]
    process = subprocess.Popen([*command, "--output", str(tmp_path)], stderr=subprocess.PIPE, text=True)
    while "epoch" not in process.stderr.readline().split()[:1]:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert earlier.read_text() == "earlier"


def test_a_network_with_other_outputs_is_refused(tmp_path):
    import keras

    model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    model.save(tmp_path / "three.keras")
    with pytest.raises(md.InputError, match=r"answers \(2, 3\)"):
        md.load_network(tmp_path / "three.keras")


def paths_read(stdin, buffer_size, monkeypatch, capsys):
    """Return the paths that are read with "-" where stdin holds some bytes."""
    stream = io.BufferedReader(io.BytesIO(stdin), buffer_size)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(stream))
    md.main(["-", "--json"])
    return [json.loads(line)["path"] for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("end", ["\n", "\0"])
def test_paths_come_from_stdin_by_lines_or_nuls(end, tmp_path, monkeypatch, capsys):
    names = [SAMPLE, str(tmp_path / "two words.png"), str(tmp_path / "no.png")]
    shutil.copy(SAMPLE, names[1])
    for text in (end.join(names), end.join([*names, ""])):
        assert paths_read(text.encode(), 16, monkeypatch, capsys) == names
    command = [sys.executable, str(ROOT / "mnist_digits.py"), "-", "--json", "--no-plot", "--model", str(md.BUNDLED)]
    done = subprocess.run(command, input=end.join(names), capture_output=True, text=True)
    assert [json.loads(line)["path"] for line in done.stdout.splitlines()] == names
    assert done.returncode == 1
    assert done.stderr.splitlines()[1].startswith(f"error: {names[2]}: no such file")


def test_lists_made_on_windows_name_the_same_files(monkeypatch, capsys):
    listed = b"a.png\r\nb c.png\r\n\r\nd.png"
    assert paths_read(listed, 8192, monkeypatch, capsys) == ["a.png", "b c.png", "d.png"]


def test_names_with_line_breaks_pass_between_nuls(monkeypatch, capsys):
    assert paths_read(b"a\nb.png\0c\nd.png\0", 8, monkeypatch, capsys) == ["a\nb.png", "c\nd.png"]


def test_an_earlier_output_is_gone_on_with(tmp_path, capsys):
    command = [SAMPLE, str(ROOT / "samples" / "7.png"), "--json", "--model", str(md.BUNDLED)]
    assert md.main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    earlier = tmp_path / "earlier.jsonl"
    earlier.write_text(f"{lines[0]}\n{lines[1][:40]}")  # the last line was cut off
    assert md.main([*command, "--skip-read", str(earlier)]) == 0
    assert capsys.readouterr().out.splitlines() == [lines[1]]
    earlier.write_text(lines[0].replace('"error": null', '"error": "gone"') + f"\n{lines[1]}\n")
    assert md.main([*command, "--skip-read", str(earlier)]) == 0
    assert capsys.readouterr().out.splitlines() == [lines[0]], "what could not be read is tried again"
    earlier.write_text(lines[0].replace('"error": null', '"error": "gone"'))
    assert md.main([*command, "--skip-read", str(earlier)]) == 0
    assert capsys.readouterr().out.splitlines() == lines, "also where nothing was read"
    earlier.write_text("path,text\n")
    assert md.main([*command, "--skip-read", str(earlier)]) == 1
    assert md.main([*command, "--skip-read", str(tmp_path / "none")]) == 1
    assert "give a file with what --json printed" in capsys.readouterr().err


def test_an_earlier_output_is_gone_on_with_where_stdout_is_closed(tmp_path, capsys, monkeypatch):
    command = [SAMPLE, "--json", "--no-plot", "--model", str(md.BUNDLED)]
    assert md.main(command) == 0
    earlier = tmp_path / "earlier.jsonl"
    earlier.write_text(capsys.readouterr().out.rstrip())  # cut off before the end of its line
    monkeypatch.setattr(sys, "stdout", None)
    assert md.main([*command, "--skip-read", str(earlier)]) == 0


def test_no_more_paths_are_taken_than_can_be_read_soon():
    taken = []
    paths = (taken.append(number) or SAMPLE for number in range(10_000))
    readings = md.read_pictures(paths)
    next(readings)
    assert len(taken) < 1000
    readings.close()


@pytest.mark.parametrize("paths", [[SAMPLE], SAMPLE, Path(SAMPLE), [Path(SAMPLE)]])
def test_pictures_are_read_from_python_in_a_few_lines(paths, capsys):
    (reading,) = md.read_pictures(paths)
    assert (reading.text, len(reading.rows[0])) == ("4", 1)
    assert capsys.readouterr() == ("", "")


def test_pictures_at_an_address_are_read(monkeypatch):
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")
    with fsspec.open("memory://pictures/4.png", "wb") as file:
        file.write(Path(SAMPLE).read_bytes())
    addresses = ["memory://pictures/4.png", "memory://pictures/none.png", "none://4.png", "dir://4.png"]
    there, missing, unknown, other = md.read_pictures(addresses)
    assert there.text == "4"
    assert "cannot be fetched" in missing.page.error
    assert unknown.page.error
    assert other.page.error


@pytest.mark.flaky(reruns=1)
@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends Ctrl-C otherwise")
@pytest.mark.parametrize("pictures", [["-"], [SAMPLE] * 10_000])
def test_ctrl_c_leaves_whole_lines(pictures, tmp_path):
    (tmp_path / "paths").write_text(f"{SAMPLE}\n" * 100_000)
    command = [sys.executable, str(ROOT / "mnist_digits.py"), *pictures, "--json", "--model", str(md.BUNDLED)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "start_new_session": True}
    with (tmp_path / "paths").open() as paths:
        reading = subprocess.Popen(command, stdin=paths, bufsize=0, **pipes)  # readline() takes no more than its line
    lines = [reading.stdout.readline()]
    os.killpg(reading.pid, signal.SIGINT)  # as a terminal does, to all that belong to the command
    out, err = reading.communicate(timeout=120)
    lines += out.splitlines()
    assert {json.loads(line)["text"] for line in lines} == {"4"}
    assert reading.returncode == 130
    assert re.fullmatch("reading with the bundled network .*\nstopped; earlier files are unchanged\n", err.decode())


def test_many_pictures_are_read_in_order_by_several_processes():
    paths = [str(ROOT / "samples" / f"{number % 10}.png") for number in range(MANY)]
    paths[70] = "missing.png"
    result = run("--json", *paths)
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [record["path"] for record in records] == paths
    texts = [record["text"] for record in records]
    assert texts.pop(70) is None
    assert texts == [str(number % 10) for number in range(MANY) if number != 70]
    assert result.returncode == 1
    assert result.stderr.splitlines()[1:] == ["error: missing.png: no such file; check the path"]


@pytest.mark.flaky(reruns=1)
@pytest.mark.skipif(sys.platform != "linux", reason="a look into /proc for the processes that read")
def test_a_reading_process_that_is_lost_is_told():
    command = [sys.executable, str(ROOT / "mnist_digits.py"), *[SAMPLE] * 10_000, "--json"]
    reading = subprocess.Popen(command, bufsize=0, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    reading.stdout.readline()
    children = Path(f"/proc/{reading.pid}/task/{reading.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    _, err = reading.communicate(timeout=120)
    assert reading.returncode == 1
    assert "error: a reading process was lost" in err.decode().splitlines()[-1]
