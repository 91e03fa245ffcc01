"""The command `xattn`: run experiments again, use and evaluate models, convert data sets, grade homework."""

import argparse
import itertools
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xattn_edu import experiments
from xattn_edu.data import refer
from xattn_edu.files import write_atomically
from xattn_edu.machine import PROFILES, choose_profile
from xattn_edu.measure import tables
from xattn_edu.measure.intervals import mean_interval
from xattn_edu.measure.recount import Row

# What an error of the library calls an argument, and what the command line calls it.
FLAGS = {
    "check_counts=False": "--no-check-counts",
    "sentences='sent'": "--sentences sent",
    "force=True": "--force",
    "images=...": "--images DIR",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; the exit status is 0, 1 for an error (one line on stderr), 2 for bad usage, 130 when interrupted."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except (ValueError, OSError, FloatingPointError, ModuleNotFoundError) as error:
        print(f"xattn: {_with_flags(str(error))}", file=sys.stderr)
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
        one.add_argument("--profile", help=f"{', '.join(PROFILES)} (default: by what is there)")
        one.add_argument("--folder", type=Path, default=experiments.RESULTS, help="where results go (default: results)")
        for setting, values in experiment.grid.items():
            kind = type(values[0])
            shown = " ".join(map(str, values))
            one.add_argument(f"--{setting}", type=kind, nargs="+", metavar="VALUE", help=f"(default {shown})")
        one.set_defaults(run=_reproduce, experiment=name)
    paper = commands.add_parser("tables", help="compare the costs a paper prints with those counted here")
    paper.add_argument("paper", choices=tables.PAPERS, help="whose tables")
    paper.set_defaults(run=_tables)
    results = commands.add_parser("results", help="show everything that was measured, as in docs/results.md")
    results.add_argument("--write", action="store_true", help="write docs/results.md")
    results.set_defaults(run=_results)
    converter = commands.add_parser(
        "convert-refer", help="write RefCOCO, RefCOCO+ or G-Ref as one JSON file, so that its pickle is read only once"
    )
    converter.add_argument(
        "root", type=Path, help="folder with the published files, <root>/<dataset>/refs(<split_by>).p"
    )
    converter.add_argument("dataset", help="refcoco, refcoco+ or refcocog")
    converter.add_argument("split_by", help="unc, google or umd")
    converter.add_argument("out", type=Path, help="JSON file to write")
    converter.set_defaults(run=_convert_refer)
    _add_evaluate(commands)
    _add_segment(commands)
    _add_doctor(commands)
    _add_grade(commands)
    _add_homework(commands)
    return parser


def _add_evaluate(commands: Any) -> None:
    evaluate = commands.add_parser("evaluate", help="evaluate a model on a data set from your disk")
    lavt = evaluate.add_subparsers(required=True, metavar="model").add_parser(
        "lavt",
        help="the published evaluation on RefCOCO, RefCOCO+ or G-Ref",
        description="oIoU, mIoU and P@X on RefCOCO, RefCOCO+ or G-Ref: one mask for each sentence of each referent. An "
        "interrupted evaluation goes on with the same command.",
    )
    _add_model(lavt)
    lavt.add_argument(
        "--refcoco", required=True, type=Path, metavar="DIR", help="folder of REFER's files, or a file of convert-refer"
    )
    lavt.add_argument("--dataset", default="refcoco", choices=refer.USUAL, help="(default refcoco)")
    lavt.add_argument("--split", default="val", help="val, testA, testB, test or train (default val)")
    lavt.add_argument("--split-by", help="unc, google or umd (default unc; for refcocog umd)")
    lavt.add_argument(
        "--images", type=Path, metavar="DIR", help="COCO's train2014, if not in a usual place in --refcoco's folder"
    )
    lavt.add_argument(
        "--check-counts",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="refuse a split with another number of referents than the published one; "
        "--no-check-counts for a set of your own",
    )
    _add_protocol(lavt)
    lavt.add_argument("--batch-size", type=int, default=8, metavar="N", help="sentences at a time (default 8)")
    lavt.add_argument(
        "--out", type=Path, metavar="FILE", help="JSON to write (default DATASET_BY_SPLIT_CHECKPOINT.json, here)"
    )
    lavt.set_defaults(run=_evaluate)


def _add_protocol(parser: argparse.ArgumentParser) -> None:
    """The defaults are those of `evaluation.Protocol`, which would take seconds to import here. A test compares."""
    group = parser.add_argument_group("what is compared", "The defaults are those of LAVT's published code.")
    group.add_argument(
        "--sentences",
        choices=("raw", "sent"),
        default="raw",
        help="sentences as people typed them (default), or in lower case without punctuation",
    )
    group.add_argument(
        "--keep-sep",
        action="store_true",
        help="keep [SEP] in a sentence that is cut at 20 pieces; by default it is cut off as well",
    )
    group.add_argument(
        "--parts",
        choices=("once", "union"),
        default="once",
        help="the target is what exactly one part of the referent covers (default), or what any part covers",
    )
    group.add_argument(
        "--at",
        choices=("network", "original"),
        default="network",
        help="compare masks in the network's squashed square (default), or in the image's own pixels",
    )


def _add_segment(commands: Any) -> None:
    segment = commands.add_parser(
        "segment",
        help="find in an image what an expression names",
        description="Draw, as a PNG, what a model finds in an image and how much its pixels read of each word.",
    )
    segment.add_argument("image", type=Path, help="a .jpg, .png or another image that Pillow reads")
    segment.add_argument("expression", help='what to find, such as "the man in red"')
    _add_model(segment)
    segment.add_argument(
        "--stage", type=int, metavar="N", help="whose word maps are drawn, 1 the finest (default: the last but one)"
    )
    segment.add_argument("--out", type=Path, metavar="FILE", help="PNG to write (default IMAGE_segmented.png, here)")
    segment.add_argument("--force", action="store_true", help="overwrite it")
    segment.set_defaults(run=_segment)


def _add_doctor(commands: Any) -> None:
    doctor = commands.add_parser("doctor", help="describe machine, libraries and data, for a report of a bug")
    doctor.add_argument("--refcoco", type=Path, metavar="DIR", help="folder of REFER's files to look into")
    doctor.set_defaults(run=_doctor)
    models = doctor.add_subparsers(metavar="models").add_parser(
        "models", help="try export, compile, LoRA and more on every model, as in docs/robustness.md (a minute or two)"
    )
    models.add_argument("--write", action="store_true", help="write docs/robustness.md")
    models.set_defaults(run=_doctor_models)


def _add_grade(commands: Any) -> None:
    grade = commands.add_parser(
        "grade",
        help="grade homework: release a set, collect, run, write feedback and marks",
        description="Grade a set of homework for a class, as docs/homework_lecturers.md describes.",
    ).add_subparsers(required=True, metavar="step")
    release = grade.add_parser("release", help="write the notebooks for students, without solutions")
    release.add_argument("sets", nargs="*", metavar="SET", help="such as hw1 (default: all)")
    collect = grade.add_parser("collect", help="sort what was handed in into a folder for each student")
    run = grade.add_parser(
        "run",
        help="grade what was collected; an interrupted run goes on with the same command",
        description="Grade all submissions, each confined in a process of its own.",
    )
    feedback = grade.add_parser("feedback", help="write a page for each student, and one of the class")
    marks = grade.add_parser("marks", help="write the marks as CSV, with points that were filled in by hand")
    for step in (collect, run, feedback, marks):
        step.add_argument("set", metavar="SET", help="such as hw1")
        step.add_argument("course", type=Path, metavar="FOLDER", help="your folder of the course, outside the clone")
    for step in (release, run, feedback, marks):
        step.add_argument(
            "--homework", type=Path, metavar="DIR", help="folder of source/ and release/, if not the clone's"
        )
    collect.add_argument("handed_in", type=Path, metavar="FROM", help="folder or .zip of the learning platform")
    # The defaults are those of `grading.confine.Limits`, which would take seconds to import here. A test compares.
    run.add_argument("--seconds", type=float, default=120.0, metavar="N", help="for one student's code (default 120)")
    run.add_argument("--memory", type=float, default=4.0, metavar="GIB", help="for one process (default 4)")
    run.add_argument("--workers", type=int, metavar="N", help="students at a time (default: one for each core)")
    marks.add_argument("--filled-in", type=Path, metavar="FILE", help="the table with points (default: the one there)")
    for step, function in ((release, _grade_release), (collect, _grade_collect), (run, _grade_run)):
        step.set_defaults(run=function)
    feedback.set_defaults(run=_grade_feedback)
    marks.set_defaults(run=_grade_marks)


def _add_homework(commands: Any) -> None:
    homework = commands.add_parser("homework", help="the exercises' checks, tried on a catalogue of mistakes")
    audit = homework.add_subparsers(required=True, metavar="audit").add_parser(
        "audit", help="try every check on wrong and right answers, as in docs/homework_audit.md (a minute)"
    )
    audit.add_argument("--write", action="store_true", help="write results/homework and docs/homework_audit.md")
    audit.set_defaults(run=_homework_audit)


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint",
        required=True,
        type=Path,
        metavar="FILE",
        help="a published LAVT (.pth), or weights of results/ (.safetensors), which take none of the next five options",
    )
    parser.add_argument(
        "--tokenizer", metavar="NAME", help="BERT's tokenizer, a folder or on the hub (bert-base-uncased)"
    )
    parser.add_argument("--size", type=int, metavar="PIXELS", help="images are squashed to this square (480)")
    parser.add_argument("--window", type=int, metavar="N", help="resize Swin's windows (as in the file)")
    parser.add_argument("--word-heads", type=int, metavar="N", help="PWAM's heads, which are in no file (1)")
    parser.add_argument("--bert-heads", type=int, metavar="N", help="BERT's heads, which are in no file (width / 64)")
    parser.add_argument("--device", default="auto", help="auto, cuda, mps or cpu (default auto)")


def _model_settings(options: argparse.Namespace) -> dict[str, Any]:
    names = ("tokenizer", "size", "window", "word_heads", "bert_heads", "device")
    return {name: getattr(options, name) for name in names}


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
                f"{experiment.score_name} {metrics['test_accuracy']:.1%} in {metrics['seconds']:.0f} s ({note})",
                flush=True,
            )
    print(f"\n{experiment.score_name} in %, mean and 95 % interval over {options.seeds} seeds")
    for words, values in found.items():
        print(f"{words:<24} {mean_interval(values):.1f}")
    return 0


def _tables(options: argparse.Namespace) -> int:
    print(
        "FLOPs in 10^9 MACs, cross-attention not folded; parameters in 10^6; convention: what the printed ones include."
    )
    rows = tables.PAPERS[options.paper]
    for source, group in itertools.groupby(rows, key=lambda row: row.source):
        print(f"\n{source}")
        flops, parameters = f"{'FLOPs':>6}{'counted':>9}", f"{'params':>7}{'all':>9}{'no positions':>14}"
        print(f"{'':<16}{flops}  {'':<10}{parameters}  {'':<10}convention")
        remarks = []
        for row in group:
            print(_table_line(row))
            remarks += [f"{row.name}: {row.remark}"] if row.remark else []
        for remark in remarks:
            print(textwrap.fill(remark, 110, initial_indent="  ", subsequent_indent="    "))
    print("\ncells: " + ", ".join(f"{name} {number}" for name, number in tables.summary(rows).items()))
    for name, meaning in tables.VERDICTS.items():
        print(f"  {name:<11}{meaning}")
    return 0


def _results(options: argparse.Namespace) -> int:
    from xattn_edu.experiments import report

    return _show_or_write(report.markdown(), report.REPORT, options.write)


def _show_or_write(text: str, path: Path, write: bool) -> int:
    if write:
        write_atomically(path, text.encode())
        print(f"{path}: written")
    else:
        print(text, end="")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from xattn_edu import doctor

    return doctor.show(options.refcoco)


def _doctor_models(options: argparse.Namespace) -> int:
    from xattn_edu.measure.robustness import table

    return _show_or_write(table.markdown(), table.DOCUMENT, options.write)


def _homework_audit(options: argparse.Namespace) -> int:
    from xattn_edu.homework import audit

    print(audit.audit(options.write), end="")
    return 0


def _convert_refer(options: argparse.Namespace) -> int:
    without_raw = refer.convert(options.root, options.dataset, options.split_by, options.out)
    for split, (found, published) in refer.counts(options.out, options.dataset, options.split_by).items():
        note = "as published" if found == published else f"published were {published:,}"
        print(f"{split:<6}{found:>7,} referents, {note}")
    if without_raw:
        wanted = "which `xattn evaluate lavt` reads by default: convert REFER's own files"
        print(f"xattn: {without_raw:,} sentences lack 'raw', {wanted}", file=sys.stderr)
    print(f"{options.out}: refer.load({str(options.out)!r}, ...) reads it")
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from xattn_edu.predict import evaluation

    split_by = options.split_by or refer.USUAL[options.dataset]
    out = options.out or Path(f"{options.dataset}_{split_by}_{options.split}_{options.checkpoint.stem}.json")
    record, stored = evaluation.evaluate(
        options.checkpoint,
        options.refcoco,
        out,
        dataset=options.dataset,
        split=options.split,
        split_by=split_by,
        images=options.images,
        check_counts=options.check_counts,
        protocol=evaluation.Protocol(options.sentences, options.keep_sep, options.parts, options.at),
        batch_size=options.batch_size,
        **_model_settings(options),
    )
    print(evaluation.table(record))
    print(f"\n{out}: {'stored before, nothing was computed' if stored else 'written'}")
    return 0


def _segment(options: argparse.Namespace) -> int:
    from xattn_edu.predict.pictures import segment_file

    out = options.out or Path(f"{options.image.stem}_segmented.png")
    share, remarks = segment_file(
        options.image,
        options.expression,
        options.checkpoint,
        out,
        stage=options.stage,
        force=options.force,
        **_model_settings(options),
    )
    for remark in remarks:
        print(f"xattn: {remark}", file=sys.stderr)
    print(f"{out}: {share:.1%} of the image" if share else f"{out}: nothing was found")
    return 0


def _homework(options: argparse.Namespace) -> dict[str, Path]:
    return {"homework": options.homework} if options.homework else {}


def _grade_release(options: argparse.Namespace) -> int:
    from xattn_edu.grading import commands

    return commands.release(options.sets, **_homework(options))


def _grade_collect(options: argparse.Namespace) -> int:
    from xattn_edu.grading import commands

    return commands.collect(options.set, options.course, options.handed_in)


def _grade_run(options: argparse.Namespace) -> int:
    from xattn_edu.grading import commands
    from xattn_edu.grading.confine import Limits

    limits = Limits(seconds=options.seconds, memory=int(options.memory * 2**30))
    return commands.run(options.set, options.course, limits, options.workers, **_homework(options))


def _grade_feedback(options: argparse.Namespace) -> int:
    from xattn_edu.grading import commands

    return commands.feedback(options.set, options.course, **_homework(options))


def _grade_marks(options: argparse.Namespace) -> int:
    from xattn_edu.grading import commands

    return commands.marks(options.set, options.course, options.filled_in, **_homework(options))


def _with_flags(words: str) -> str:
    for argument, flag in FLAGS.items():
        words = words.replace(argument, flag)
    return words


def _table_line(row: Row) -> str:
    def cell(number: float | None, form: str) -> str:
        return "-" if number is None else format(number, form)

    macs = None if row.macs is None else row.macs / 1e9
    parameters, rest = (
        None if number is None else number / 1e6 for number in (row.parameters, row.parameters_without_positions)
    )
    flops = f"{cell(row.published_flops, '.1f'):>6}{cell(macs, '.4f'):>9}  {row.flops_verdict:<10}"
    counted = f"{cell(row.published_parameters, '.1f'):>7}{cell(parameters, '.3f'):>9}{cell(rest, '.3f'):>14}"
    return f"{row.name:<16}{flops}{counted}  {row.parameters_verdict:<10}{row.convention}".rstrip()


if __name__ == "__main__":
    sys.exit(main())
