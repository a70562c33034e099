"""Exports ViT-B/16 at 224 x 224 with random weights (86 M parameters) for benchmarks and the torch lane.

    pip install torch==2.13.0 transformers==5.23.0
    python examples/export_vit.py [--weights vit_b16.safetensors]

Writes `models/vit_b16_224.pt2` (graph only, batch 1). The weights come from a fixed seed: no wheel on
PyPI carries real ones. `--weights` stores them (346 MB) under the graph's names.
"""

import argparse
from pathlib import Path

import torch
from transformers import ViTConfig, ViTForImageClassification

from zeroforge_export import save_graph_only, save_tensors

HERE = Path(__file__).parent


class Vit(ViTForImageClassification):
    """`pixel_values`: f32 [1, 3, 224, 224]; gives logits, f32 [1, 1000]."""

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return super().forward(pixel_values=pixel_values).logits


def load() -> Vit:
    """ViT-B/16 with weights of seed 0."""
    torch.manual_seed(0)
    return Vit(ViTConfig(num_labels=1000, attn_implementation="sdpa")).eval()


def example() -> tuple[torch.Tensor]:
    """The arguments of the export."""
    return (torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1)),)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--weights", type=Path, help="store the weights here")
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    model = load()
    save_graph_only(torch.export.export(model, example()).run_decompositions({}), HERE / "models/vit_b16_224.pt2")
    if args.weights:
        save_tensors(model.state_dict(), args.weights)


if __name__ == "__main__":
    main()
