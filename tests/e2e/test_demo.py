"""The demo at full strength: it learns, and what it learnt translates alike in any batch."""

import json
import random
from pathlib import Path

import pytest

from tests.conftest import Mt

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def demo(mt: Mt, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("demo") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        result = mt("train", "configs/demo.yaml", "--set", f"run_dir={run}", "--set", "training.max_minutes=null")
    assert result.code == 0, result.err
    return run


def test_unseen_sentences_are_translated_well(demo: Path, mt: Mt, tmp_path: Path) -> None:
    assert mt("eval", demo, "--json", tmp_path / "scores.json").code == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["sentences"] == 500
    assert scores["bleu"]["score"] >= 90


@pytest.mark.parametrize("beam", [1, 5])
def test_batches_of_any_size_and_order_give_the_same_text(demo: Path, mt: Mt, tmp_path: Path, beam: int) -> None:
    lines = (ROOT / "data" / "test.en").read_text(encoding="utf-8").splitlines()
    shuffled = random.Random(1).sample(range(len(lines)), len(lines))
    (tmp_path / "shuffled.en").write_text("".join(lines[i] + "\n" for i in shuffled), encoding="utf-8")

    def translate(file: Path, size: int) -> list[str]:
        options = ("--set", f"decoding.beam_size={beam}", "--set", f"decoding.batch_size={size}")
        return mt("translate", demo, file, *options, "--scores").out.splitlines()

    alone = translate(ROOT / "data" / "test.en", 1)
    assert len(alone) == len(lines)
    for size in (7, 64):
        assert translate(ROOT / "data" / "test.en", size) == alone
    assert translate(tmp_path / "shuffled.en", 64) == [alone[i] for i in shuffled]
