"""`braid eval` of an endpoint: the served model over a real socket, asked in text by the official client."""

import json
from pathlib import Path

import pytest
from serve_lab import NAME, MortalEngine, serving

from data.text.codec import load_codec
from rl.cli import main
from rollout.protocols.sequential import SequentialParams
from rollout.protocols.shared.framing_params import TagFramingConfig

PARAMS = SequentialParams(name="sequential", max_tokens=20, framing=TagFramingConfig())


@pytest.mark.medium
def test_an_endpoint_is_asked_in_text_and_its_tokens_are_those_of_its_usage(
    tiny_model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    codec = load_codec(tiny_model_dir)
    said = (*codec.encode("<answer> 6"), codec.eos)
    rows = tmp_path / "rows.jsonl"
    golds = {"5 6": "6", "7 8": "9"}
    rows.write_text("".join(json.dumps({"prompt": q, "answer": a}) + "\n" for q, a in golds.items()))
    with serving(tiny_model_dir, PARAMS, lambda: MortalEngine(lambda *_: said, max_length=512)) as lab:
        arguments = [
            "eval", f"{lab.url}/v1", "--model", NAME, "--rows", str(rows), "--verifier", "exact",
            "--samples", "4", "--set", "answer.kind=whole", "--set", "max_tokens=20",
            "--set", 'framing={kind: plain, instructions: {solo: "{problem}"}}',
            "--out", str(tmp_path / "out"),
        ]  # fmt: skip
        assert main(arguments) == 0
        asked = len(lab.engines[0].requests)
        assert main(arguments) == 0, "all there: nothing is asked again"
        assert len(lab.engines[0].requests) == asked == 8
        capsys.readouterr()
        assert main([*arguments[:3], "nobody", *arguments[4:-1], str(tmp_path / "other")]) == 2
        assert "404" in capsys.readouterr().err
    found = json.loads((tmp_path / "out" / "strategies.json").read_text())
    points = {(point["strategy"], point["setting"]): point for point in found["points"]}
    # Of two problems "6" is right for one; three tokens a sample, and no shape of the model for eFLOPs.
    assert found["at_k"]["avg@4"]["value"] == 0.5
    assert points["majority", "n = 4"]["total_tokens"] == 4 * 3
    assert points["majority", "n = 4"]["critical_tokens"] == 3
    assert "eflops" not in points["majority", "n = 1"] and found["shape"] is None
    assert not {strategy for strategy, _ in points} & {"set_cover", "cap"}
    # The server has gone: an error of running, not of input.
    assert main([*arguments[:-1], str(tmp_path / "late")]) == 1
