"""`weightspace embed`: what a hyper-representation says of networks in files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from weightspace.config import BadInput

if TYPE_CHECKING:
    from weightspace.embeddings.embeddings import Embeddings

NUMBERS_SHOWN = 4


def embed_command(
    networks: Annotated[
        list[Path], typer.Argument(help="Files (.safetensors, .pt, .pth), folders of them, or one Parquet data set.")
    ],
    hyperrep: Annotated[Path, typer.Option(help="Folder of the hyper-representation, such as data/hyperrep/NAME.")],
    out: Annotated[Path | None, typer.Option(help="Parquet file for member, lost and summary.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:n.")] = "auto",
    summary: Annotated[
        Literal["features", "latents", "pooled"],
        typer.Option(help="What sums a network up; networks of several architectures need pooled."),
    ] = "features",
    activation: Annotated[
        str | None, typer.Option(help="Of the networks, where their canonical form depends on it: relu, tanh, ...")
    ] = None,
) -> None:
    """Embed networks: print a table, or write it with --out."""
    if out is not None and (out.suffix != ".parquet" or not out.parent.is_dir()):
        raise BadInput(f"--out: got {out}, wanted a .parquet file in a folder that is there")
    # Late, so that help comes at once.
    from weightspace.api import Hyperrep

    given = networks[0] if len(networks) == 1 else networks
    embeddings = Hyperrep.load(hyperrep, device).embed(given, summary=summary, activation=activation)
    if out is None:
        show_embeddings(embeddings)
    else:
        write_summaries(embeddings, out)
        typer.echo(f"{out}: {len(embeddings.table)} networks, {embeddings.summary.shape[1]} numbers each")


def show_embeddings(embeddings: "Embeddings") -> None:
    """Print a line a network: where it is from, what its reconstruction loses, and how its summary starts."""
    table = embeddings.table
    names = [str(member) for member in table["member"]]
    if "epoch" in table:
        names = [f"{name}, epoch {epoch}" for name, epoch in zip(names, table["epoch"], strict=True)]
    width = max(len("member"), *map(len, names))
    typer.echo(f"{'member':<{width}}  {'lost':>8}  summary, {embeddings.summary.shape[1]} numbers (--out writes all)")
    for name, lost, summary in zip(names, table["lost"], embeddings.summary, strict=True):
        start = " ".join(f"{number:8.3f}" for number in summary[:NUMBERS_SHOWN])
        typer.echo(f"{name:<{width}}  {lost:8.2%}  {start} ...")


def write_summaries(embeddings: "Embeddings", out: Path) -> None:
    """Write the table of the networks with a column `summary`, under a temporary name until it is whole."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from weightspace.embeddings.embeddings import SUMMARY, pack_lists

    table = pa.Table.from_pandas(embeddings.table, preserve_index=False)
    partial = out.with_suffix(".partial")
    pq.write_table(table.append_column(SUMMARY, pack_lists(embeddings.summary)), partial, compression="zstd")
    partial.replace(out)
