"""Learning curves: which lines are in one chart, and what is shown of a single value."""

from __future__ import annotations

from types import SimpleNamespace

from musegen.render.curves import Panel, panels

NLL = (1, "nll")


def run(history, name="a", monitor="val/nll", loss_metric=None):
    return SimpleNamespace(name=name, monitor=monitor, loss_metric=loss_metric, history=history)


def lines(panel: Panel) -> dict[str, list[tuple[float, float]]]:
    return {s.name: list(s.points) for s in panel.series}


def test_the_training_loss_is_in_the_chart_of_the_metric_that_it_is() -> None:
    history = {
        "train/loss": [(1.0, 3.0), (2.0, 2.0)],
        "val/accuracy": [(1.0, 0.1), (2.0, 0.2)],
        "val/nll": [(1.0, 4.0), (2.0, 3.5)],
    }
    nll, accuracy = panels([run(history, loss_metric=NLL)])
    assert nll.label == "Negative log-likelihood (nats)"
    assert lines(nll) == {"training": history["train/loss"], "validation": history["val/nll"]}
    assert [s.dashed for s in nll.series] == [True, False]
    assert lines(accuracy) == {"validation": history["val/accuracy"]}


def test_a_log_likelihood_is_minus_the_loss() -> None:
    history = {
        "train/loss": [(1.0, 3.0), (2.0, 2.0)],
        "val/log_likelihood": [(1.0, -4.0), (2.0, -3.5)],
    }
    (panel,) = panels([run(history, loss_metric=(-1, "log_likelihood"))])
    assert lines(panel)["training"] == [(1.0, -3.0), (2.0, -2.0)]


def test_a_loss_that_is_no_metric_has_its_own_chart() -> None:
    points = [(1.0, 3.0), (2.0, 2.0)]
    of_rbm = run({"train/loss": points, "val/nll": points})
    without_validation = run({"train/loss": points}, loss_metric=NLL)
    assert [p.label for p in panels([of_rbm])] == ["Negative log-likelihood (nats)", "Loss"]
    assert [p.label for p in panels([without_validation])] == ["Loss"]


def test_one_epoch_is_shown_as_text() -> None:
    short = run({"train/loss": [(1.0, 3.0)], "val/nll": [(1.0, -4.25)]}, loss_metric=NLL)
    (panel,) = panels([short])
    assert not panel.chart
    assert panel.values == ["training 3 in epoch 1", "validation −4.25 in epoch 1"]
    long = run({"val/nll": [(1.0, 4.0), (2.0, 3.0)]}, name="b")
    (panel,) = panels([short, long])  # beside a line, a dot can be compared
    assert "b, validation from 4 in epoch 1 to 3 in epoch 2" in panel.chart
    assert panel.values == []


def test_a_metric_without_a_finite_value_has_no_chart() -> None:
    (panel,) = panels([run({"val/nll": [(1.0, float("nan")), (2.0, float("inf"))]})])
    assert (panel.chart, panel.values) == ("", [])
