"""The command `q2d2 push`."""

import sys
import tempfile
from pathlib import Path


def push(
    repo_id: str,
    *,
    codec: str = "bundled",
    output: Path | None = None,
    datasets: list[str] | None = None,
    card: Path | None = None,
    dry_run: bool = False,
) -> int:
    """Publish a codec on the Hugging Face Hub, with its code and a model card, after a test that it loads on its own.

        q2d2 push me/q2d2-24khz --dry_run
        q2d2 push me/q2d2-24khz --codec runs/default/weights

    The exported folder loads with trust_remote_code=True where q2d2_tokenizer is not installed. The exit code is 1 if
    the export is complete but was not uploaded.

    Args:
        repo_id: Repository on the Hub, owner/name.
        codec: Folder of a codec, its name on the Hub, or bundled.
        output: New folder for the export; a temporary one if left out.
        datasets: Hub names of the training data, for the card.
        card: Text file on data, licences and limits, for the card; that of the bundled codec if that is published.
        dry_run: Export and check, do not upload.
    """
    from huggingface_hub.utils import validate_repo_id

    from .. import hub
    from ..audio.files import make_folder
    from ..bundled import codec_source, default_checkpoint

    validate_repo_id(repo_id)
    folder = output or Path(tempfile.mkdtemp(prefix="q2d2-"))
    make_folder(folder)
    if any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty; name a new folder")
    source = codec_source(codec)
    is_bundled = Path(source).resolve() == Path(default_checkpoint()).resolve()
    hub.export(source, folder, repo_id, datasets or [], card or (hub.BUNDLED_CARD if is_bundled else None))
    print(f"exported to {folder}; it loads on its own, with the same tokens")
    failure = None if dry_run else hub.upload(folder, repo_id)
    if failure:
        print(f"q2d2: not uploaded: {failure}; the export in {folder} is complete", file=sys.stderr)
    elif not dry_run:
        print(f"uploaded to https://huggingface.co/{repo_id}")
    return int(failure is not None)
