"""The completion scripts, asked by the shells themselves where these are installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from musegen.cli.completion import SCRIPTS, words
from musegen.cli.main import COMMANDS, main
from musegen.config.groups import config_choices


@pytest.fixture(scope="module")
def found() -> dict[str, list[str]]:
    return words()


def test_the_words_of_every_command(found: dict[str, list[str]]) -> None:
    assert set(found) == set(COMMANDS)
    assert all(f"model={name}" in found["train"] for name in config_choices("model"))
    settings = {"model.hidden=", "data.codec.time_bins=", "optimizer.lr=", "sample.ais_steps="}
    assert settings | {"trainer.max_epochs=", "assess.chains=", "--help"} <= set(found["train"])
    assert {"trials=", "data=jsb"} <= set(found["sweep"])
    assert {"run=", "out=", "top_p=", "prime="} <= set(found["generate"])
    assert {"format=onnx", "half=", "run="} <= set(found["export"])
    assert "shell=zsh" in found["completion"]


@pytest.mark.parametrize(
    ("line", "completions"),
    [
        ("musegen gen", ["generate"]),
        ("musegen train model=rnn", ["rnn_nade", "rnn_rbm"]),
        ("musegen train model.attention_d", ["model.attention_dropout="]),
        ("musegen list what=d", ["data"]),
        ("musegen generate run=my_r", ["my_runs"]),
    ],
)
def test_bash_completes(
    line: str, completions: list[str], found: dict[str, list[str]], tmp_path: Path
) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    (tmp_path / "my_runs").mkdir()
    (tmp_path / "musegen").write_text(SCRIPTS["bash"](found))
    # What bash does at the Tab key: it splits the line at spaces and at =.
    split = line.replace("=", " = ").split()
    asked = (
        f"source ./musegen; COMP_WORDBREAKS=' ='; COMP_LINE={line!r}; COMP_POINT={len(line)}; "
        f"COMP_WORDS=({' '.join(split)}); COMP_CWORD={len(split) - 1}; "
        '_musegen; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        [bash, "--norc", "-c", asked], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout.split(), done.stderr) == (completions, "")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_read_their_script(
    shell: str, found: dict[str, list[str]], tmp_path: Path
) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    script = tmp_path / "script"
    script.write_text(SCRIPTS[shell](found))
    checked = subprocess.run([program, "-n", str(script)], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")
    asked = {
        "fish": f"source {script}; complete -C 'musegen train model=rnn'",
        # zsh calls the function with these variables; compadd is given the candidates.
        "zsh": f"compdef() {{ }}; source {script}; compadd() {{ print -l -- $@ }}; CURRENT=3; "
        "words=(musegen train model=rnn); PREFIX=model=rnn; _musegen",
    }[shell]
    done = subprocess.run([program, "-c", asked], capture_output=True, text=True, timeout=60)
    assert "model=rnn_rbm" in done.stdout.split()


def test_the_command_prints_the_script(cli) -> None:
    code, out, err = cli(main, "completion", "shell=fish")
    assert (code, err) == (0, "")
    assert out.startswith("# musegen completion shell=fish\ncomplete -c musegen ")
    code, _, err = cli(main, "completion", "shell=tcsh")
    assert code == 1
    assert err.startswith("musegen: completion.shell=tcsh: should be ")
