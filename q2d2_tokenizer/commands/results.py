"""The command `q2d2 results`."""

from pathlib import Path


def results(folders: list[Path], *, output: Path = Path("docs/RESULTS.md")) -> None:
    """Write a page of results from evaluations, one section each.

        q2d2 results docs/results docs/results/domains/* --output docs/RESULTS.md

    The title of a section is the --title of its evaluation, or the name of its folder. The first evaluation also fills
    the tables of README.md and of the card of the weights, between <!-- results: quality --> and <!-- end -->.

    Args:
        folders: Folders with an evaluation.json; others are left out.
        output: Markdown file to write.
    """
    from ..audio.files import write_atomically
    from ..evaluation.provenance import require_commit
    from ..evaluation.report import as_markdown, fill_pages
    from ..evaluation.summary import read_result

    require_commit(output)
    found = [folder for folder in folders if (folder / "evaluation.json").is_file()]
    if not found:
        raise ValueError(f"no evaluation.json in {', '.join(map(str, folders))}; q2d2 evaluate writes it")
    intro = "Written by `q2d2 results`; change the evaluations, not this page."
    read = {folder: read_result(folder) for folder in found}
    sections = [f"## {one['data'].get('title') or folder.name}\n\n{as_markdown(one)}" for folder, one in read.items()]
    write_atomically(output, ("\n\n".join(["# Results", intro, *sections]) + "\n").encode())
    fill_pages(output, read[found[0]])
