"""Containers: what headers say of lengths, rates and places is checked against the file; nothing is lost in silence."""

import io
import struct

import numpy as np
import pytest
import soundfile
from recordings import FORMATS, file_bytes, ogg_page, ogg_pages, sealed

from q2d2_tokenizer.audio.containers import split
from q2d2_tokenizer.audio.containers.flac import _flac_crc16, _flac_frame
from q2d2_tokenizer.audio.containers.mp3 import _mp3_frame_length
from q2d2_tokenizer.audio.errors import AudioError, EmptyAudioError, UnreadableAudioError
from q2d2_tokenizer.audio.reading import read_audio
from q2d2_tokenizer.corpus.cells import announced_seconds

RATE = 24000
ID3 = b"ID3\x04\0\0\0\0\x01\x00" + bytes(128)
ENDS = {"ID3v1": b"TAG" + bytes(125), "APE": b"APETAGEX" + struct.pack("<IIII", 2000, 40, 1, 0) + bytes(48)}


@pytest.fixture
def noise():
    """Function `(seconds, rate=24000, seed=0)` -> noise (N,) float32 with all frequencies."""

    def make(seconds: float, rate: int = RATE, seed: int = 0) -> np.ndarray:
        samples = np.random.default_rng(seed).standard_normal(int(seconds * rate))
        return (0.1 * samples).astype(np.float32)

    return make


def mp3(samples: np.ndarray, rate: int = RATE, **kwargs: object) -> bytes:
    return file_bytes(samples, rate, "MP3", "MPEG_LAYER_III", **kwargs)


def changed(content: bytes, place: int, new: bytes) -> bytes:
    return content[:place] + new + content[place + len(new) :]


JOINED = [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")]


@pytest.mark.parametrize(("file_format", "subtype"), JOINED)
@pytest.mark.parametrize("between", [b"", ID3])
def test_joined_files_are_read_one_after_another(file_format, subtype, between, noise):
    second = np.stack([noise(2, 16000, 1)] * 2, axis=1)  # of another rate and in stereo
    one, two = file_bytes(noise(1), RATE, file_format, subtype), file_bytes(second, 16000, file_format, subtype)
    expected = np.concatenate([read_audio(one, RATE), read_audio(two, RATE), read_audio(one, RATE)])
    content = one + between + two + between + one
    if file_format == "WAV" and between:
        with pytest.raises(UnreadableAudioError, match="more follow"):
            read_audio(content, RATE)
        return
    assert np.array_equal(read_audio(content, RATE), expected) and len(expected) == 4 * RATE
    assert announced_seconds(content) == pytest.approx(4)
    with pytest.raises(UnreadableAudioError, match="damaged or cut off"):
        read_audio(content[: -len(one) // 2], RATE)


@pytest.mark.parametrize(("file_format", "subtype"), JOINED)
@pytest.mark.parametrize("kind", ["in front", "twice in front", "ID3v1", "APE", "zeros"])
def test_tags_around_the_audio_change_nothing(file_format, subtype, kind, noise):
    content = file_bytes(noise(1), RATE, file_format, subtype)
    whole = read_audio(content, RATE)
    tagged = {"in front": ID3 + content, "twice in front": ID3 + ID3 + content, "zeros": content + bytes(700)}
    tagged |= {name: content + end for name, end in ENDS.items()}
    assert np.array_equal(read_audio(tagged[kind], RATE), whole) and len(whole) == RATE


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0xFFFFFFFE, 0x7FFFFFFF, 0x7FFFF000, 0x80000000])
@pytest.mark.parametrize("tag", [b"", ID3])
def test_a_wav_of_unknown_length_is_read_to_its_end(size, tag, noise):
    one, two = (file_bytes(noise(1, seed=seed), RATE, "WAV", "PCM_16") for seed in (0, 1))
    streamed = [changed(content, content.index(b"data") + 4, struct.pack("<I", size)) for content in (one, two)]
    both = np.concatenate([read_audio(one, RATE), read_audio(two, RATE)])
    assert np.array_equal(read_audio(tag + streamed[0], RATE), both[:RATE])
    assert np.array_equal(read_audio(tag + streamed[0] + streamed[1], RATE), both)
    assert announced_seconds(b"".join(streamed)) == 2


def test_a_wav_that_is_longer_than_what_stands_for_an_unknown_length(noise, monkeypatch):
    content = file_bytes(noise(1), RATE, "WAV", "PCM_16")
    monkeypatch.setattr("q2d2_tokenizer.audio.containers.wav._UNKNOWN_SIZES", (range(1000, 1001),))
    data = changed(content, content.index(b"data") + 4, struct.pack("<I", 1000))
    assert np.array_equal(read_audio(data, RATE), read_audio(content, RATE))


def test_sizes_of_a_wav_are_checked(noise):
    content = file_bytes(noise(1), RATE, "WAV", "PCM_16")
    place = content.index(b"data") + 4
    chunks = b"LIST\x04\0\0\0INFO" + b"odd \x03\0\0\0abc\0"
    assert np.array_equal(read_audio(content + chunks, RATE), read_audio(content, RATE))
    with pytest.raises(UnreadableAudioError, match=r"promises 100 bytes of samples, but 47900 more .* -ignore_length"):
        read_audio(changed(content, place, struct.pack("<I", 100)), RATE)
    with pytest.raises(UnreadableAudioError, match="promises 100000 bytes of samples, it holds 48000"):
        read_audio(changed(content, place, struct.pack("<I", 100_000)), RATE)
    for empty in (content[:place] + bytes(4), content[:place] + bytes(4) + chunks):
        with pytest.raises(EmptyAudioError):
            read_audio(empty, RATE)
    odd = file_bytes(noise(1)[:777], RATE, "WAV", "PCM_U8")
    without_pad = odd[:-1] if len(odd) % 2 == 0 else odd
    for end in (odd, odd + chunks, without_pad + chunks):
        assert len(read_audio(end, RATE)) == 777


def test_rf64_is_wav_with_long_sizes(noise):
    content = file_bytes(noise(1), RATE, "RF64", "PCM_16")
    whole = read_audio(content, RATE)
    assert np.array_equal(whole, read_audio(file_bytes(noise(1), RATE, "WAV", "PCM_16"), RATE))
    sizes = content.index(b"ds64") + 8
    for size in (0, 2**64 - 1):
        assert np.array_equal(read_audio(changed(content, sizes + 8, struct.pack("<Q", size)), RATE), whole)
    assert np.array_equal(read_audio(b"BW64" + content[4:], RATE), whole)
    with pytest.raises(UnreadableAudioError, match="it holds 47990"):
        read_audio(content[:-10], RATE)


@pytest.mark.parametrize("file_format", ["WAV", "WAVEX", "RF64"])
def test_a_wav_longer_than_its_sizes_can_tell(file_format, noise, monkeypatch):
    content = file_bytes(noise(1), RATE, file_format, "PCM_16")
    whole = read_audio(content, RATE)
    monkeypatch.setattr("q2d2_tokenizer.audio.containers.wav._LONG", 1000)  # instead of 4 GiB
    assert split(content)[0].file.read(4) == b"RF64"
    for data in (content, changed(content, content.index(b"data") + 4, b"\xff" * 4)):
        assert np.array_equal(read_audio(data, RATE), whole)


@pytest.mark.parametrize("seconds", [0.05, 3.0])
def test_a_flac_is_as_long_as_its_last_frame_tells(seconds, noise):
    content = file_bytes(noise(seconds), RATE, "FLAC", "PCM_16")
    whole = read_audio(content, RATE)
    for total in (0, 1, len(whole) - 1):
        data = bytearray(content)
        data[21:26] = (int.from_bytes(data[21:26], "big") - len(whole) + total).to_bytes(5, "big")
        for end in (b"", *ENDS.values()):
            assert np.array_equal(read_audio(bytes(data) + end, RATE), whole)
        assert announced_seconds(bytes(data)) == seconds
        for cut in (1, 3, 100):
            with pytest.raises(UnreadableAudioError, match="damaged or cut off"):
                read_audio(bytes(data)[:-cut], RATE)
    data[21:26] = (int.from_bytes(data[21:26], "big") + 10**6).to_bytes(5, "big")
    with pytest.raises(UnreadableAudioError, match=f"promises {10**6 + len(whole) - 1} samples, it holds {len(whole)}"):
        read_audio(bytes(data), RATE)


def flac_ending_in_zeros(zeros: int) -> bytes:
    """A FLAC file of one frame, whose checksum ends in 1 or 2 zeros, as in one of 256 and of 65,536."""
    samples = np.random.default_rng(0).integers(-(2**15), 2**15, 300, dtype=np.int16)  # stored as they are
    frame = file_bytes(samples, RATE, "FLAC", "PCM_16")[:-4]  # without the last sample and the checksum
    if zeros == 2:  # the checksum of what ends in its own checksum
        return frame + _flac_crc16(frame[frame.rindex(b"\xff\xf8") :]).to_bytes(2, "big") + bytes(2)
    for last in range(2**16):
        whole = frame + last.to_bytes(2, "big")
        checksum = _flac_crc16(whole[frame.rindex(b"\xff\xf8") :])
        if checksum and not checksum & 255:
            return whole + checksum.to_bytes(2, "big")
    raise AssertionError("every checksum is possible")


@pytest.mark.parametrize("zeros", [1, 2])
@pytest.mark.parametrize("end", [b"", bytes(1), bytes(700), *ENDS.values()], ids=["", "zero", "zeros", *ENDS])
def test_a_flac_whose_checksum_ends_in_zeros(zeros, end):
    content = flac_ending_in_zeros(zeros)
    assert content.endswith(bytes(zeros)) and not content.endswith(bytes(zeros + 1))
    expected, _ = soundfile.read(io.BytesIO(content), dtype="float32")
    assert np.array_equal(read_audio(content + end, RATE), expected) and len(expected) == 300
    both = np.concatenate([expected, expected])
    assert np.array_equal(read_audio(content + content + end, RATE), both)
    with pytest.raises(UnreadableAudioError):
        read_audio(content[: -zeros - 1], RATE)


@pytest.mark.parametrize("block", [100, 24000])
def test_zeros_behind_a_flac_are_not_decoded(block, noise, monkeypatch):
    monkeypatch.setattr("q2d2_tokenizer.audio.reading._BLOCK_SAMPLES", block)
    content = file_bytes(noise(1), RATE, "FLAC", "PCM_16")
    expected, _ = soundfile.read(io.BytesIO(content), dtype="float32")
    for zeros in (0, 1, 2, 3, 700):
        assert np.array_equal(read_audio(content + bytes(zeros), RATE), expected)


def ogg_flac(content: bytes) -> list[bytes]:
    """Pages of a FLAC file in Ogg."""
    blocks, position, is_last = [], 4, False
    while not is_last:
        is_last, size = bool(content[position] & 0x80), int.from_bytes(content[position + 1 : position + 4], "big")
        blocks.append(content[position : position + 4 + size])
        position += 4 + size
    starts = [i for i in range(position, len(content)) if _flac_frame(content, i)]
    frames = [content[a:b] for a, b in zip(starts, [*starts[1:], len(content)], strict=True)]
    head = b"\x7fFLAC\x01\x00" + struct.pack(">H", len(blocks) - 1) + b"fLaC" + blocks[0]
    packets = [head, *blocks[1:], *frames]
    first = len(blocks)
    return [
        ogg_page(packet, number, 2 * (number == 0) | 4 * (number == len(packets) - 1), (number - first) * 4096)
        for number, packet in enumerate(packets)
    ]


def test_flac_in_ogg(noise):
    content = file_bytes(noise(2), RATE, "FLAC", "PCM_16")
    pages = ogg_flac(content)
    assert len(pages) > 8
    assert np.array_equal(read_audio(sealed(*pages), RATE), read_audio(content, RATE))
    unknown = bytearray(pages[0])
    unknown[-13 - 8 : -8 - 8] = b"".join([bytes([unknown[-21] & 0xF0]), bytes(4)])  # before the 16 bytes of the digest
    assert np.array_equal(read_audio(sealed(unknown, *pages[1:]), RATE), read_audio(content, RATE))
    with pytest.raises(UnreadableAudioError, match="last page is missing"):
        read_audio(sealed(*pages[:-1]), RATE)
    with pytest.raises(UnreadableAudioError, match="missing"):
        read_audio(sealed(*pages[:5], *pages[6:]), RATE)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_the_mark_of_the_last_page_may_be_on_an_empty_one(subtype, noise):
    *pages, last = ogg_pages(file_bytes(noise(2), RATE, "OGG", subtype))
    whole = read_audio(sealed(*pages, last), RATE)
    last[5] &= ~4
    number = struct.unpack_from("<I", last, 18)[0]
    empty = bytearray(b"OggS\0\x04" + last[6:18] + struct.pack("<II", number + 1, 0) + b"\0")
    assert np.array_equal(read_audio(sealed(*pages, last, empty), RATE), whole)
    with pytest.raises(UnreadableAudioError, match="last page is missing.*ffmpeg -i in.ogg -c copy out.ogg"):
        read_audio(sealed(*pages, last), RATE)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_pages_of_another_stream_are_left_out(subtype, noise):
    first, *rest = ogg_pages(file_bytes(noise(2), RATE, "OGG", subtype))
    whole = read_audio(sealed(first, *rest), RATE)
    other = [ogg_page(b"fishead\0" + bytes(56), 0, 2), ogg_page(b"fisbone\0", 1), ogg_page(b"", 2, 4)]
    mixed = sealed(other[0], first, rest[0], *other[1:], *rest[1:])
    assert np.array_equal(read_audio(mixed, RATE), whole)
    serial = [bytearray(page[:14] + b"abcd" + page[18:]) for page in (first, *rest)]
    pairs = [page for pair in zip([first, *rest], serial, strict=True) for page in pair]
    with pytest.raises(UnreadableAudioError, match="2 recordings at the same time"):
        read_audio(sealed(*pairs), RATE)
    with pytest.raises(UnreadableAudioError, match=r"Speex in Ogg; convert it: ffmpeg"):
        read_audio(sealed(ogg_page(b"Speex   " + bytes(72), 0, 2), ogg_page(b"x", 1, 4)), RATE)


def opus_at(pages: list[bytearray], offset: int, cut: int = 0, scale: float = 1.0) -> bytes:
    """The pages with positions that begin at `offset` (48 kHz), the last one earlier by `cut`."""
    moved = [bytearray(page) for page in pages]
    for number, page in enumerate(moved):
        position = struct.unpack_from("<q", page, 6)[0]
        if position > 0:
            position = int(position * scale) + offset - cut * (number == len(moved) - 1)
            struct.pack_into("<q", page, 6, position)
    return sealed(*moved)


@pytest.mark.parametrize("rate", [0, 8000, 12000, 44100, 48000, 2**32 - 1])
def test_the_rate_that_opus_remarks_changes_nothing(rate, noise):
    first, *rest = ogg_pages(file_bytes(noise(2, 48000), 48000, "OGG", "OPUS"))
    struct.pack_into("<I", first, first.index(b"OpusHead") + 12, rate)
    samples = read_audio(sealed(first, *rest), RATE)
    power = np.abs(np.fft.rfft(samples)) ** 2
    bands = [power[low * 4000 : low * 4000 + 2000].mean() for low in range(6)]  # of 2 s: bins are half a hertz apart
    assert len(samples) == 2 * RATE and min(bands) > 0.3 * max(bands)


@pytest.mark.parametrize(("rate", "remarked"), [(16000, 48000), (16000, 0), (24000, 48000), (24000, 8000)])
def test_opus_of_a_narrow_band_is_not_decoded_at_a_higher_rate(rate, remarked, noise):
    content = file_bytes(noise(2, rate), rate, "OGG", "OPUS")
    wanted = soundfile.read(io.BytesIO(content), dtype="float32")[0]
    first, *rest = ogg_pages(content)
    struct.pack_into("<I", first, first.index(b"OpusHead") + 12, remarked)
    assert np.array_equal(read_audio(sealed(first, *rest), rate), wanted)


@pytest.mark.parametrize("offset", [0, 960, 48000, 10**9])
@pytest.mark.parametrize("cut", [0, 100, 900])
def test_opus_may_begin_at_any_position_and_end_within_a_packet(offset, cut, noise):
    pages = ogg_pages(file_bytes(noise(3, 48000), 48000, "OGG", "OPUS"))
    assert len(pages) > 4
    whole = read_audio(sealed(*pages), 48000)
    assert len(whole) == 3 * 48000
    samples = read_audio(opus_at(pages, offset, cut), 48000)
    assert np.array_equal(samples, whole[: len(whole) - cut])


def test_positions_of_opus_are_checked_against_its_packets(noise):
    pages = ogg_pages(file_bytes(noise(3, 48000), 48000, "OGG", "OPUS"))
    whole = read_audio(sealed(*pages), 48000)
    for content in (opus_at(pages, 0, cut=70_000), opus_at(pages, 0, scale=0.5)):
        try:
            samples = read_audio(content, 48000)
        except UnreadableAudioError as error:
            assert "positions" in str(error)
        else:
            assert np.array_equal(samples[: len(whole)], whole) and len(samples) < len(whole) + 2000
    zeros = [bytearray(page[:6] + bytes(8) + page[14:]) for page in pages]
    assert np.array_equal(read_audio(sealed(*zeros), 48000)[: len(whole)], whole)
    one = ogg_pages(file_bytes(noise(0.3, 48000), 48000, "OGG", "OPUS"))
    assert len(one) == 3
    short = read_audio(sealed(*one), 48000)
    for offset, more in (
        (0, 0),
        (48000, 960),
    ):  # a page alone tells where it begins or what is cut of its end, not both
        samples = read_audio(opus_at(one, offset), 48000)
        assert np.array_equal(samples[: len(short)], short) and len(samples) <= len(short) + more
    with pytest.raises(UnreadableAudioError, match=r"positions promise 4\.0\d s, its packets hold 3\.0\d s.*aresample"):
        read_audio(opus_at(pages, 0, cut=-48000), 48000)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_an_mp3_is_as_long_as_its_frames(rate, channels, noise):
    samples = np.stack([noise(3, rate)] * channels, axis=1)
    samples[:rate] *= 0.001  # so that the first frames are small, and a guess by them is wrong
    content = mp3(samples, rate, bitrate_mode="VARIABLE", compression_level=0.3)
    whole = read_audio(content, rate)
    tag = content.find(b"Xing")
    size = _mp3_frame_length(content, 0)
    assert tag > 0 and len(whole) == 3 * rate
    vbri = content[:36] + b"VBRI" + bytes(size - 40) + content[size:]
    few = changed(content, tag + 8, struct.pack(">I", 10))
    wrong = [changed(content, tag + 4, bytes(4)), changed(content, tag + 8, bytes(4)), few, content[size:], vbri]
    for data in wrong:
        longer = read_audio(data, rate)
        assert len(whole) <= len(longer) < len(whole) + 4000
        delay = np.argmax(np.correlate(longer[rate : 2 * rate + 4000], whole[rate : 2 * rate], "valid"))
        assert np.allclose(longer[delay : delay + len(whole)], whole, atol=1e-4)
        assert announced_seconds(data) == len(longer) / rate
    with pytest.raises(UnreadableAudioError, match="promises 100000 frames"):
        read_audio(changed(content, tag + 8, struct.pack(">I", 100_000)), rate)


def test_damage_within_an_mp3_is_refused_and_prints_nothing(noise, capfd):
    content = mp3(noise(3))
    without_length = content[_mp3_frame_length(content, 0) :]
    frame = 0
    for _ in range(30):
        frame += _mp3_frame_length(content, frame)
    damaged = {
        "header promises 127 frames": changed(content, 5000, bytes(400)),
        "the bytes .* are no MP3": changed(without_length, 5000, bytes(400)),
        "none of wav": content[1:300],
        r"it is damaged: \[src/libmpg123/.* error: ": changed(content, frame + 5, b"\xff" * 8),  # its side information
    }
    for message, data in damaged.items():
        with pytest.raises(UnreadableAudioError, match=message):
            read_audio(data, RATE)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("settings", [{}, {"bitrate_mode": "CONSTANT"}, {"bitrate_mode": "VARIABLE"}])
def test_an_mp3_that_was_cut_out_of_a_stream_begins_with_its_first_frame(settings, noise, capfd):
    content = mp3(noise(3), compression_level=0.5, **settings)
    whole = read_audio(content, RATE)[-20_000:-2000]
    for start in (2000, 3111, 5000):
        samples = read_audio(content[start:], RATE)
        place = np.argmax(np.correlate(samples, whole, "valid"))
        assert len(samples) > 24_000 and np.allclose(samples[place : place + len(whole)], whole, atol=1e-4)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("place", [0, 9000, 40_000])
def test_much_that_is_no_mp3_is_damage(place, noise):
    content = mp3(noise(3), bitrate_mode="CONSTANT", compression_level=0.3)
    content = content[_mp3_frame_length(content, 0) :]
    noisy = np.random.default_rng(0).integers(0, 255, 9000, np.uint8).tobytes()
    with pytest.raises(UnreadableAudioError, match="are no MP3"):
        read_audio(content[:place] + noisy + content[place:], RATE)
    assert len(read_audio(bytes(9000) + content + b"LYRICSBEGIN" + noisy + b"LYRICS200", RATE)) > 72_000


@pytest.mark.parametrize(("file_format", "subtype"), [names[1:] for names in FORMATS])
def test_random_damage_raises_only_errors_of_audio(file_format, subtype, noise):
    content = file_bytes(noise(0.3), RATE, file_format, subtype)
    rng = np.random.default_rng(0)
    for _ in range(80):
        data = bytearray(content)
        for place in rng.integers(0, min(len(data), 400), rng.integers(1, 6)):
            data[place] = rng.integers(256)
        try:
            split(bytes(data[: rng.integers(1, len(data) + 1)]))
        except AudioError:
            pass


KINDS = {
    "MP4 or M4A": b"\0\0\0\x20ftypM4A \0\0\0\0",
    "WebM or Matroska": b"\x1aE\xdf\xa3\x9fB\x86\x81",
    "AAC": b"\xff\xf1\x50\x80\x2e\x7f\xfc\x21",
    "AIFF": b"FORM\0\0\0\x20AIFF",
    "AMR": b"#!AMR\n",
    "NIST SPHERE": b"NIST_1A\n   1024\n",
    "none of wav, flac, ogg, opus and mp3": b"no audio" * 99,
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_read_is_named_with_the_way_out(kind, tmp_path):
    (tmp_path / "a.wav").write_bytes(KINDS[kind] + bytes(5000))
    with pytest.raises(UnreadableAudioError, match=rf"a\.wav as audio: it is {kind}; convert it: ffmpeg -i IN OUT\.fl"):
        read_audio(tmp_path / "a.wav", RATE)


@pytest.mark.parametrize(("file_format", "subtype"), JOINED)
def test_changed_bytes_never_shorten_a_recording(file_format, subtype, noise, capfd):
    content = file_bytes(noise(1), RATE, file_format, subtype)
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(content), 60):
        data = changed(content, int(place), bytes([content[place] ^ 1 << int(rng.integers(8))]))
        try:
            samples = read_audio(data, RATE)
        except AudioError:
            continue
        assert len(samples) >= RATE or data[:200] != content[:200], f"{len(samples)} samples, byte {place} was changed"
    assert capfd.readouterr().err == ""
