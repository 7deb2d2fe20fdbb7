"""The command `q2d2 decode-row`."""

from pathlib import Path


def decode_row(folder: str, id: str, *, output: str, codec: str = "bundled", device: str = "cpu") -> None:
    """Turn one row of a token data set into a wav file.

        q2d2 decode-row tokens 1272-128104-0000 --output row.wav

    Args:
        folder: Folder of the data set, as q2d2 tokenize wrote it.
        id: The id of the row.
        output: Wav file to write.
        codec: Folder of the codec that made the tokens, its name on the Hub, or bundled.
        device: Device of the codec, such as cpu or cuda.
    """
    from ..audio.files import make_folder, refuse_folder
    from ..audio.recordings import decode_to_file
    from ..bundled import load_codec
    from ..corpus.shards import find_row

    make_folder(Path(output).parent)
    refuse_folder(output)
    model = load_codec(codec, device)
    try:
        tokens = find_row(folder, id, model.fingerprint())
    except KeyError as error:
        raise ValueError(error.args[0]) from error
    decode_to_file(model, tokens.audio_codes, tokens.num_samples, output)
    print(f"wrote {output}, {tokens.num_samples / tokens.sampling_rate:.2f} s")
