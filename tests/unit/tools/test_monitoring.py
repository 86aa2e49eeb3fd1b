"""The trial of alerts takes expressions apart, and says what it lacks."""

import pytest
from click.testing import CliRunner

from tools.monitoring.__main__ import main
from tools.monitoring.expressions import operands, shortened, without_variables


@pytest.mark.parametrize(
    ("expression", "parts"),
    [
        ("max(a) > 100", ["max(a)"]),
        ('sum(rate(a{kind=~"x|y > \\" and"}[10m])) > 0.1 * sum(b)', None),
        ("a{n=~'x'} > 0 unless sum(orders) > 0", ["a{n=~'x'}", "sum(orders)"]),
        ("max(a) > 5 and max(a) > max(a offset 10m)", ["max(a)", "max(a offset 10m)"]),
        ("max(a / b) == 1", ["max(a / b)"]),
        ("3 * count(brand) >= 1e3", ["3 * count(brand)"]),
    ],
)
def test_operands_are_what_stands_between_operators(
    expression: str, parts: list[str] | None
) -> None:
    wanted = parts or ['sum(rate(a{kind=~"x|y > \\" and"}[10m]))', "0.1 * sum(b)"]

    assert operands(expression) == wanted


def test_ranges_and_offsets_are_shortened_and_numbers_are_not() -> None:
    assert shortened("rate(a[10m]) > 10 and b offset 5m", 20) == (
        "rate(a[20s]) > 10 and b offset 20s"
    )


def test_variables_of_grafana_get_values() -> None:
    panel = 'rate(a{namespace=~"$namespace", pod=~"$pod"}[$__rate_interval])'

    assert without_variables(panel, 20) == 'rate(a{namespace=~".*", pod=~".*"}[20s])'


def test_missing_prometheus_is_told_with_the_package_that_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    ran = CliRunner().invoke(main)

    assert ran.exit_code == 2
    assert "apt-get install prometheus" in ran.output
