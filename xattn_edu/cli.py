"""The command `xattn`: run the course's experiments again, from the shell."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from xattn_edu import experiments
from xattn_edu.metrics import mean_interval
from xattn_edu.profiles import choose_profile


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; the exit status is 0, 1 for an error (one line on stderr), 2 for bad usage, 130 when interrupted."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"xattn: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("xattn: interrupted; the same command continues where it stopped", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="xattn", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    reproduce = commands.add_parser("reproduce", help="run an experiment of the course with several seeds")
    reproduce.add_argument("--list", action="store_true", help="name the experiments")
    reproduce.set_defaults(run=_list, parser=reproduce)
    names = reproduce.add_subparsers(metavar="experiment")
    for name, experiment in experiments.EXPERIMENTS.items():
        one = names.add_parser(name, help=experiment.description, description=experiment.description)
        one.add_argument("--seeds", type=int, default=3, metavar="N", help="seeds 0 to N - 1 (default 3)")
        one.add_argument("--profile", help="ci, cpu or gpu (default: by what is there)")
        one.add_argument("--folder", type=Path, default=experiments.RESULTS, help="where results go (default: results)")
        for setting, values in experiment.grid.items():
            kind = type(values[0])
            shown = " ".join(map(str, values))
            one.add_argument(f"--{setting}", type=kind, nargs="+", metavar="VALUE", help=f"(default {shown})")
        one.set_defaults(run=_reproduce, experiment=name)
    return parser


def _list(options: argparse.Namespace) -> int:
    if not options.list:
        options.parser.error("name an experiment, or --list them")
    for name, experiment in experiments.EXPERIMENTS.items():
        print(f"{name:<20} {experiment.description}")
    return 0


def _reproduce(options: argparse.Namespace) -> int:
    if options.seeds < 1:
        raise ValueError(f"--seeds must be 1 or more, given {options.seeds}")
    name, experiment = options.experiment, experiments.EXPERIMENTS[options.experiment]
    profile = choose_profile(options.profile)
    print(profile)
    points = list(experiment.points(**{setting: getattr(options, setting) for setting in experiment.grid}))
    found: dict[str, list[float]] = {}
    for seed in range(options.seeds):
        for number, point in enumerate(points, start=seed * len(points) + 1):
            words = " ".join(f"{setting} {value}" for setting, value in point.items())
            stored = experiments.result_path(name, point, seed, profile.name, options.folder).exists()
            record = experiments.reproduce(name, point, seed, profile, options.folder)
            metrics = record["metrics"]
            found.setdefault(words, []).append(100 * metrics["test_accuracy"])
            note = "stored" if stored else f"{metrics['cpu_per_wall']:.1f} cores busy"
            print(
                f"{number}/{len(points) * options.seeds}  {words} seed {seed}: "
                f"test accuracy {metrics['test_accuracy']:.1%} in {metrics['seconds']:.0f} s ({note})",
                flush=True,
            )
    print(f"\ntest accuracy in %, mean and 95 % interval over {options.seeds} seeds")
    for words, values in found.items():
        print(f"{words:<24} {mean_interval(values):.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
