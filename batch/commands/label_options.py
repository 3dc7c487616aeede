"""The options of ``label`` alone, in groups."""

from __future__ import annotations

import click

from batch.commands.options import FILE, answer_options, group, place_options
from batch.limits import DEFAULT_MAX_GONE
from batch.options import EngineKind

# The model, and what it is asked.
model_options = group(
    place_options,
    click.option(
        "--per-face",
        is_flag=True,
        help="Write one row a face, not one row a photo, and look for small faces everywhere.",
    ),
    answer_options,
)


# What of it is labelled.
choice_options = group(
    click.option(
        "--archives", is_flag=True, help="Look into the .zip and .tar files in folders as well."
    ),
    click.option(
        "--salvage",
        is_flag=True,
        help="Label what is there of truncated photos, and say so in the column error.",
    ),
    click.option("--dry-run", is_flag=True, help="Only list the files that would be labelled."),
    click.option(
        "--shard",
        metavar="N/TOTAL",
        help="Label a part of the files alone, such as 3/16, for `batch-label merge`.",
    ),
)


# What becomes of earlier runs' work.
memory_options = group(
    click.option(
        "--state",
        type=FILE,
        metavar="FILE",
        help="The journal of what is done.  [default: hidden beside the report; of a URL in "
        "~/.local/state/batch-label]",
    ),
    click.option(
        "--fresh",
        is_flag=True,
        help="Forget the journal and label everything; cut off, it goes on.",
    ),
    click.option(
        "--verify-hash",
        is_flag=True,
        help="Read every file to see whether it has changed, whatever size and time say.",
    ),
    click.option(
        "--ignore-inode",
        is_flag=True,
        help="Do not read a file again only because its ctime or inode changed.",
    ),
    click.option(
        "--keep-missing",
        is_flag=True,
        help="Keep the rows of photos that are gone, marked as missing.",
    ),
    click.option(
        "--accept-failures",
        is_flag=True,
        help="Accept the files that fail in this run: until they change, they count neither for "
        "the exit code nor for --max-failures.",
    ),
)


# Which machines do the work.
cluster_options = group(
    click.option(
        "--engine",
        type=click.Choice([kind.value for kind in EngineKind]),
        default=EngineKind.LOCAL.value,
        show_default=True,
        help="Label on this machine or on a Ray cluster (extra: ray).",
    ),
    click.option(
        "--ray-address",
        envvar="RAY_ADDRESS",
        metavar="ADDRESS",
        help="The Ray cluster.  [default: RAY_ADDRESS, else one is started for the run]",
    ),
    click.option(
        "--actors",
        type=click.IntRange(1, 100_000),
        metavar="N",
        help="Actors on the Ray cluster, of --workers each (1 unless given).  [default: as many "
        "as it has room for]",
    ),
    click.option(
        "--parts",
        metavar="DIR|URL",
        help="Where actors leave what they have done.  [default: hidden beside the report]",
    ),
)


# What a scheduler wants to say.
schedule_options = group(
    click.option(
        "--deadline",
        metavar="HH:MM",
        help="Begin no photo after this time of the day; the next run goes on.",
    ),
    click.option(
        "--time-limit", metavar="DURATION", help="The same after so long: 2h30m, 90m, 45s."
    ),
    click.option(
        "--max-failures",
        metavar="N|P%",
        help="Fail, and publish nothing, if more files than this can't be read.",
    ),
    click.option(
        "--max-gone",
        default=DEFAULT_MAX_GONE,
        show_default=True,
        metavar="N|P%",
        help="Fail, and publish nothing, if more known photos than this are gone; 0 switches off "
        "all guards against a disk that is away.",
    ),
    click.option("--wait", is_flag=True, help="Wait while another run is at work on the report."),
    click.option(
        "--metrics-file",
        type=FILE,
        metavar="FILE.prom",
        help="Write the run's figures for Prometheus' textfile collector.",
    ),
    click.option(
        "--fail-on-drift",
        is_flag=True,
        help="Fail, once the report is published, if the answers differ much from earlier runs'.",
    ),
    click.option(
        "--accept-drift",
        is_flag=True,
        help="Take the new answers for the usual ones, and do not warn of how they differ.",
    ),
)
