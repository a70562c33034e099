"""Exports transformers' LlamaForCausalLM with 52 M random parameters for benchmarks and the torch lane.

    pip install torch==2.13.0 transformers==5.23.0
    python examples/export_llama52m.py [--weights llama52m.safetensors]

Writes `models/llama52m_s128.pt2` (graph only, batch 1, 128 tokens, no cache): 6 layers, width 512, 8 heads,
MLP 1376, vocabulary 32000, rotary embedding and causal mask as transformers builds them.
`--weights` stores the weights of a fixed seed (207 MB) under the graph's names.
"""

import argparse
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from zeroforge_export import save_graph_only, save_tensors

HERE = Path(__file__).parent


class Llama52m(LlamaForCausalLM):
    """`input_ids`: i64 [1, 128]; gives logits, f32 [1, 128, 32000]."""

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return super().forward(input_ids=input_ids, use_cache=False).logits


def load() -> Llama52m:
    """The model with weights of seed 0."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32000, hidden_size=512, intermediate_size=1376, num_hidden_layers=6, num_attention_heads=8,
        num_key_value_heads=8, max_position_embeddings=2048, attn_implementation="sdpa",
    )  # fmt: skip
    return Llama52m(config).eval()


def example() -> tuple[torch.Tensor]:
    """The arguments of the export."""
    return (torch.randint(0, 32000, (1, 128), generator=torch.Generator().manual_seed(1)),)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--weights", type=Path, help="store the weights here")
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    model = load()
    save_graph_only(torch.export.export(model, example()).run_decompositions({}), HERE / "models/llama52m_s128.pt2")
    if args.weights:
        save_tensors(model.state_dict(), args.weights)


if __name__ == "__main__":
    main()
