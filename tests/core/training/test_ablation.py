"""Ablation suites: what is trained, under one budget; nothing twice; tables with spread and paired differences."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.evaluation import CaseScores, ClassScores, Report, write_report
from meduniseg_core.model.networks import count_parameters
from meduniseg_core.training import ablation
from meduniseg_core.training.ablation import read_suite, run_suite, suite_reports, trainings
from meduniseg_core.training.ablation_tables import ablation_tables, suite_markdown, table_rows
from meduniseg_core.weights import read_info

SUITE = """
name = "tiny"
output = "out"
seeds = [0, 1]
reference = "meduniseg"
cases = "validation"

[base]
datasets = ["Dataset001_Discs", "Dataset002_Balls"]
cache = "cache"
epochs = 1
iterations_per_dataset = 1
validation_fraction = 0.3
device = "cpu"
precision = "fp32"
validation_cases = 1
select = "last"
task_shares = { disc = 2.0 }
plan.disc.longest_side = 48
[base.network]
features = [4, 6, 8, 8, 8, 8]
task_prompt_channels = 4
modal_prompt_length = 16
[base.plan_2d]
patch = [1, 32, 32]
batch = 3
longest_side = 56
[base.plan_3d]
patch = [16, 32, 32]
batch = 2

[[runs]]
name = "meduniseg"
title = "MedUniSeg"
[[runs]]
name = "uniseg"
settings.network.modal_prior = false
[[runs]]
name = "single"
each = true
settings.network.priors = false

[[tables]]
number = 3
title = "networks"
rows = "sets"
runs = ["single", "meduniseg"]
[[tables]]
number = 5
title = "variants"
runs = ["uniseg", "meduniseg"]
"""


@pytest.fixture
def suite_file(tmp_path: Path, discs: Path, balls: Path) -> Path:
    path = tmp_path / "suite.toml"
    path.write_text(SUITE)
    return path


def test_a_run_changes_what_it_names_and_the_budget_is_one(suite_file: Path) -> None:
    suite = read_suite(suite_file)
    listed = trainings(suite)
    assert [(one.run.name, one.seed) for one in listed] == [
        *(("meduniseg", 0), ("uniseg", 0), ("single", 0), ("single", 0)),
        *(("meduniseg", 1), ("uniseg", 1), ("single", 1), ("single", 1)),
    ]
    first, second, disc, ball = (one.config for one in listed[:4])
    assert first.network.modal_prior and not second.network.modal_prior
    assert second.network.features == first.network.features and second.seed == 0
    assert (disc.datasets, ball.datasets) == (first.datasets[:1], first.datasets[1:])
    assert (set(disc.plan), set(ball.plan), ball.task_shares) == ({"disc"}, set(), {})
    assert first.total_iterations == 2 == disc.total_iterations + ball.total_iterations
    assert len({one.config.output for one in listed}) == 8
    assert first.cache == disc.cache == suite_file.parent / "cache"
    assert [one.seed for one in trainings(suite, ["uniseg"], seeds=[1])] == [1]


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ('name = "uniseg"\n', 'name = "uniseg"\nsettings.epochs = 9\n', "epochs is the suite's"),
        ('reference = "meduniseg"', 'reference = "nobody"', "no run 'nobody'"),
        ('name = "uniseg"', 'name = "meduniseg"', "same name"),
        ("modal_prior = false", "modal_priors = false", "run uniseg: network.modal_priors"),
        ("modal_prior = false", "features = [4, 6]", "run uniseg: .* cannot be built"),
        ("settings.network.modal_prior = false", 'settings.init = "no.pt"', "run uniseg: .*no.pt, which init names"),
        ("settings.network.priors = false", "settings.plan.dsic.patch = [1, 32, 32]", "run single: .*'dsic'"),
        ('cache = "cache"', 'cache = "cache"\nseed = 4', "base.seed"),
        ("validation_fraction = 0.3", "validation_fraction = 0", "no validation cases"),
        ('"Dataset002_Balls"', '"Dataset001_Discs"', "Two data sets hold the task 'disc'"),
        ("seeds = [0, 1]", "seeds = [0, -1]", "seeds.1"),
        ("seeds = [0, 1]", "seeds = []", "seeds"),
        ("[base]", "[[base", "not valid TOML"),
    ],
)
def test_a_wrong_suite_is_refused_before_anything_is_trained(suite_file: Path, before, after, reason) -> None:
    suite_file.write_text(SUITE.replace(before, after, 1))
    with pytest.raises(BadInputError, match=reason) as refused:
        read_suite(suite_file)
    assert str(suite_file) in str(refused.value)


def test_a_network_without_a_form_for_a_set_leaves_it_out(suite_file: Path) -> None:
    """As the volumes' transformers in the paper's table 3, which has no scores of 2D sets for them."""
    network = '{ method = "ux-net", features = [4, 6, 8, 12], strides = [[2, 2, 2], [2, 2, 2], [2, 2, 2]] }'
    suite_file.write_text(SUITE.replace("settings.network.priors = false", f"settings.network = {network}"))
    suite = read_suite(suite_file)
    assert [one.config.output.name for one in trainings(suite, ["single"])] == ["ball", "ball"]
    put(suite, "single", 0, "ball", 3, [0.7])
    for task, dimension in (("disc", 2), ("ball", 3)):
        put(suite, "meduniseg", 0, task, dimension, [0.5])
    three, _ = ablation_tables(suite)
    assert [row[1] for row in table_rows(three)] == ["single", "-", "70.0", "70.0", "-", "-", "-"]
    assert three.columns[0].difference is None
    only_2d = SUITE.replace(', "Dataset002_Balls"', "").replace("task_shares = { disc = 2.0 }", "")
    suite_file.write_text(only_2d.replace("settings.network.priors = false", f"settings.network = {network}"))
    with pytest.raises(BadInputError, match=r"run single: .*for none of the data sets' images"):
        read_suite(suite_file)


def test_names_and_seeds_that_are_not_there(suite_file: Path) -> None:
    suite = read_suite(suite_file)
    with pytest.raises(UsageError, match="no run 'x'"):
        trainings(suite, ["x"])
    with pytest.raises(UsageError, match="no seed 7"):
        trainings(suite, seeds=[7])


def test_what_is_done_is_not_done_again(suite_file: Path, monkeypatch) -> None:
    suite = read_suite(suite_file)
    run_suite(suite, ["single"], seeds=[0])
    assert {run: set(of[0]) for run, of in suite_reports(suite).items()} == {"single": {"disc", "ball"}}
    three, five = ablation_tables(suite)
    assert three.tasks == ("disc", "ball")  # as the suite names the data sets
    paths = sorted((suite.output / "single" / "seed_0").glob("*/*.safetensors"))
    models = [path for path in paths if path.name.startswith("tiny-single-0-")]
    counted = [count_parameters(read_info(path).config)["total"] for path in models]
    assert len(models) == 2 and three.columns[0].parameters == sum(counted)
    assert five.columns[0].means == {} and five.columns[0].parameters is None
    assert table_rows(three)[0] == ["data set", "single", "MedUniSeg"]

    def again(*_: object, **__: object) -> None:
        raise AssertionError("it is done")

    for name in ("trained", "predict_cases"):
        monkeypatch.setattr(ablation, name, again)
    run_suite(suite, ["single"], seeds=[0])


def test_a_run_s_paths_are_relative_to_the_suite(suite_file: Path) -> None:
    (suite_file.parent / "weights.pt").write_bytes(b"")
    suite_file.write_text(SUITE.replace("settings.network.modal_prior = false", 'settings.init = "weights.pt"'))
    suite = read_suite(suite_file)
    assert trainings(suite, ["uniseg"])[0].config.init == str(suite_file.parent / "weights.pt")


def test_a_run_that_is_named_twice_is_listed_once(suite_file: Path) -> None:
    assert len(trainings(read_suite(suite_file), ["uniseg", "uniseg"], seeds=[0])) == 1


def test_a_suite_that_was_edited_since_shows_no_former_results(suite_file: Path) -> None:
    run_suite(read_suite(suite_file), ["uniseg"], seeds=[1])
    assert ablation_tables(read_suite(suite_file))[1].columns[0].parameters  # by the seed that is done
    for before, after, reason in (
        ("epochs = 1", "epochs = 2", r"epochs = 1, and the suite says 2 now"),
        ("modal_prior = false", "fuse_blocks = 2", r"network\.\w+ = "),
        ('cases = "validation"', 'cases = "test"', "cases = validation"),
    ):
        suite_file.write_text(SUITE.replace(before, after, 1))
        for use in (ablation_tables, run_suite):
            with pytest.raises(BadInputError, match=reason) as refused:
                use(read_suite(suite_file))
            assert str(suite_file.parent / "out" / "uniseg" / "seed_1") in str(refused.value)
    suite_file.write_text(SUITE.replace('device = "cpu"', 'device = "auto"\nthreads = 1'))
    assert ablation_tables(read_suite(suite_file))[1].columns[0].means


def test_damaged_results_say_what_to_remove(suite_file: Path) -> None:
    suite = read_suite(suite_file)
    put(suite, "uniseg", 0, "disc", 2, [0.4])
    report = suite.output / "uniseg" / "seed_0" / "reports" / "disc" / "report.json"
    report.write_text("{")
    with pytest.raises(BadInputError, match=r"remove all files report\.\* there and run 'meduniseg ablate' again"):
        ablation_tables(suite)
    shutil.rmtree(report.parent)
    model = suite.output / "uniseg" / "seed_0" / "tiny-uniseg-0.safetensors"
    model.write_bytes(b"no model")
    for use in (ablation_tables, lambda asked: run_suite(asked, ["uniseg"], seeds=[0])):
        with pytest.raises(BadInputError, match=r"tiny-uniseg-0\.safetensors is damaged; remove it"):
            use(suite)


def test_what_is_damaged_and_removed_is_made_anew(suite_file: Path) -> None:
    suite = read_suite(suite_file)
    run_suite(suite, ["single"], seeds=[0])
    folder = suite.output / "single" / "seed_0" / "reports" / "disc"
    before = suite_reports(suite)["single"][0]["disc"].dice
    for path in folder.glob("report.*"):
        path.unlink()
    prediction = next(folder.glob("predictions/*.png"))
    prediction.write_bytes(prediction.read_bytes()[:60])
    with pytest.raises(BadInputError, match=f"disc cannot be evaluated .*{prediction.name}.*remove what is damaged"):
        run_suite(suite, ["single"], seeds=[0])
    prediction.unlink()
    prediction.with_suffix(".json").unlink()
    run_suite(suite, ["single"], seeds=[0])
    assert suite_reports(suite)["single"][0]["disc"].dice == before


def put(suite: ablation.Suite, run: str, seed: int, task: str, dimension: int, scores: list[float], first=0) -> None:
    cases = tuple(
        CaseScores(
            case=f"c{number}",
            dimension=dimension,
            unit="mm",
            classes=(
                ClassScores(
                    label=1,
                    name="it",
                    dice=dice,
                    hd95=None,
                    surface_dice=None,
                    prediction_volume=1.0,
                    reference_volume=1.0,
                ),
            ),
        )
        for number, dice in enumerate(scores, start=first)
    )
    folder = suite.output / run / f"seed_{seed}" / "reports" / task
    write_report(Report(task=task, tolerance=2.0, cases=cases), folder)


def test_tables_of_some_seeds_say_how_many_there_are(suite_file: Path) -> None:
    suite = read_suite(suite_file)
    put(suite, "meduniseg", 0, "disc", 2, [0.4])
    put(suite, "meduniseg", 0, "ball", 3, [0.8])
    assert "**1 of 2 seeds is done.**" in suite_markdown(ablation_tables(suite), suite)


def test_a_table_whose_runs_are_all_behind_says_so(suite_file: Path) -> None:
    suite_file.write_text(SUITE.replace('runs = ["uniseg", "meduniseg"]', 'runs = ["uniseg"]'))
    suite = read_suite(suite_file)
    for run, seed in (("meduniseg", 0), ("meduniseg", 1), ("uniseg", 0)):
        put(suite, run, seed, "disc", 2, [0.4])
        put(suite, run, seed, "ball", 3, [0.8])
    _, five = ablation_tables(suite)
    assert table_rows(five)[1][2:5] == ["80.0 (1)", "40.0 (1)", "60.0 (1)"]


def test_titles_do_not_break_the_tables(suite_file: Path) -> None:
    suite_file.write_text(SUITE.replace('title = "MedUniSeg"', 'title = "C|1"'))
    suite = read_suite(suite_file)
    assert r"| data set | single | C\|1 |" in suite_markdown(ablation_tables(suite), suite)


def test_the_difference_is_that_of_the_means_where_seeds_hold_back_other_cases(suite_file: Path) -> None:
    suite = read_suite(suite_file)
    for seed, first in ((0, 0), (1, 2)):  # cases c0 to c2, then c2 to c4
        for run, lift in (("meduniseg", 0.0), ("uniseg", 0.1 * (1 + seed))):
            put(suite, run, seed, "disc", 2, [0.2, 0.3, 0.4 + lift], first)
            put(suite, run, seed, "ball", 3, [0.5 + lift], first)
    _, five = ablation_tables(suite)
    uniseg, meduniseg = five.columns
    assert uniseg.difference is not None and uniseg.interval is not None
    assert uniseg.difference.mean == pytest.approx(uniseg.means["mean"].mean - meduniseg.means["mean"].mean)
    assert uniseg.difference.mean == pytest.approx(10.0)
    assert uniseg.difference.spread == pytest.approx(4.714, abs=1e-3)  # of 6.67 and 13.33, the seeds' differences
    assert uniseg.interval.low < 10 < uniseg.interval.high
    assert table_rows(five)[1][5].startswith("+10.0 ± 4.7 [")


def test_a_seed_that_is_partly_done_takes_no_part_in_differences(suite_file: Path) -> None:
    suite = read_suite(suite_file)
    for run, dice in (("meduniseg", 0.5), ("uniseg", 0.6)):
        put(suite, run, 0, "disc", 2, [dice])
        put(suite, run, 0, "ball", 3, [dice])
        put(suite, run, 1, "disc", 2, [1 - dice])
    _, five = ablation_tables(suite)
    difference = five.columns[0].difference
    assert difference is not None and difference.mean == pytest.approx(10.0)
    assert (difference.spread, difference.seeds) == (None, 1)
    assert five.columns[0].tasks["disc"].seeds == 2 and five.columns[0].means["mean"].seeds == 1


def test_means_spread_and_paired_differences(suite_file: Path) -> None:
    suite = read_suite(suite_file)
    for seed, lift in ((0, 0.0), (1, 0.1)):
        put(suite, "meduniseg", seed, "disc", 2, [0.4 + lift, 0.6 + lift])
        put(suite, "meduniseg", seed, "ball", 3, [0.8 + lift])
        put(suite, "uniseg", seed, "disc", 2, [0.3 + lift, 0.5 + lift])
    put(suite, "uniseg", 0, "ball", 3, [0.7])
    _, five = ablation_tables(suite)
    uniseg, meduniseg = five.columns
    score = meduniseg.means["mean"]
    assert (score.mean, score.spread, score.seeds) == (pytest.approx(70.0), pytest.approx(7.0711, abs=1e-3), 2)
    assert meduniseg.means["mean_3d"].mean == pytest.approx(85.0)
    assert uniseg.means["mean"].seeds == 1 and uniseg.means["mean"].spread is None  # seed 1 lacks a task
    assert uniseg.difference is not None and uniseg.difference.mean == pytest.approx(-10.0)
    assert meduniseg.difference is None
    assert uniseg.interval is not None
    assert (uniseg.interval.low, uniseg.interval.high) == (pytest.approx(-10.0), pytest.approx(-10.0))
    assert table_rows(five)[1:] == [
        ["uniseg", "-", "70.0 (1)", "40.0 (1)", "55.0 (1)", "-10.0 [-10.0, -10.0]"],
        ["MedUniSeg", "-", "85.0 ± 7.1", "55.0 ± 7.1", "70.0 ± 7.1", "-"],
    ]
    text = suite_markdown(ablation_tables(suite), suite)
    assert "## Table 5: variants" in text and "| MedUniSeg | - | 85.0 ± 7.1 |" in text and "seeds are done" not in text
    assert json.loads(five.model_dump_json())["columns"][0]["run"] == "uniseg"
