"""Saving torch.export programs for zeroforge: archives without paths, and archives without weights.

`torch.export.save` writes the exporting machine's folders into every node (stack traces), ids of
Python objects that differ from run to run, a pickle of the sample inputs, and all weights.

* `clean(ep)` keeps file name, line and function of the frames of the model's own code and drops
  the rest, in place, so that a following `torch.export.save` names no folder and repeats its bytes.
* `save_graph_only(ep, path)` writes a `.pt2` that holds the graph, the *description* of every
  weight (name, dtype, shape, strides) and the small constants, but no weight payload and no pickle.
  `zeroforge compile model.pt2 --weights model.safetensors` finds the payloads by name.

Both are deterministic: the same script and the same package versions give the same bytes.
"""

import io
import json
import re
import zipfile
from pathlib import Path, PureWindowsPath

import torch

# Constants above this size would not be "small" any more: the model should load them as weights.
MAX_CONSTANT_BYTES = 64 * 1024

_FRAME = re.compile(r'File "([^"]*)", line (\d+), in (\S+)')
_TORCH = str(Path(torch.__file__).parent)


def _short_trace(trace: str) -> str:
    """The two innermost frames of the model's own code, with base names instead of paths."""
    frames = _FRAME.findall(trace)
    own = [frame for frame in frames if not frame[0].startswith(_TORCH)]
    return "\n".join(
        f'File "{PureWindowsPath(file).name}", line {line}, in {function}'
        for file, line, function in (own or frames)[-2:]
    )


def _graphs(module: torch.fx.GraphModule):
    yield module.graph
    for child in module.children():
        if isinstance(child, torch.fx.GraphModule):
            yield from _graphs(child)


def clean(ep: torch.export.ExportedProgram, slim: bool = False) -> torch.export.ExportedProgram:
    """Removes folders and run-dependent ids from the metadata of `ep`, in place; returns `ep`.

    With `slim`, only the trace and the innermost module remain of each node's metadata.
    """
    for graph in _graphs(ep.graph_module):
        for node in graph.nodes:
            if trace := node.meta.get("stack_trace"):
                node.meta["stack_trace"] = _short_trace(trace)
            # `from_node` holds id() values of Python objects: different in every process.
            node.meta.pop("from_node", None)
            if slim:
                node.meta.pop("torch_fn", None)
                node.meta.pop("source_fn_stack", None)
                if stack := node.meta.get("nn_module_stack"):
                    node.meta["nn_module_stack"] = dict(list(stack.items())[-1:])
    return ep


def _add(archive: zipfile.ZipFile, name: str, payload: bytes) -> None:
    """Adds a stored entry with a fixed time stamp and its payload aligned to 64 bytes."""
    info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    header = archive.fp.tell() + 30 + len(name.encode()) + 4
    pad = -header % 64
    info.extra = b"FB" + pad.to_bytes(2, "little") + b"Z" * pad
    archive.writestr(info, payload)


def save_graph_only(ep: torch.export.ExportedProgram, path: str | Path) -> None:
    """Writes `ep` to `path` without weight payloads, sample inputs and bulky node metadata.

    Parameters and persistent buffers lose their payload; tensors that no state dict holds
    (non-persistent buffers, lifted constants) keep theirs.
    """
    path = Path(path)
    buffer = io.BytesIO()
    torch.export.save(clean(ep), buffer)
    with zipfile.ZipFile(buffer) as full:
        entries = {name.split("/", 1)[1]: full.read(name) for name in full.namelist()}

    model = json.loads(entries["models/model.json"])
    for node in _json_nodes(model):
        metadata = node.get("metadata") or {}
        kept = {}
        if "stack_trace" in metadata:
            kept["stack_trace"] = metadata["stack_trace"].split("\n")[-1]
        if metadata.get("nn_module_stack"):
            kept["nn_module_stack"] = metadata["nn_module_stack"].split(";")[-1]
        node["metadata"] = kept
    entries["models/model.json"] = json.dumps(model, separators=(",", ":")).encode()

    constants = sum(len(b) for name, b in entries.items() if name.startswith("data/constants/tensor_"))
    if constants > MAX_CONSTANT_BYTES:
        raise ValueError(f"{path}: {constants} bytes of constants would be stored in a graph-only archive")

    kept_names = sorted(
        name
        for name in entries
        if not name.startswith("data/sample_inputs/")
        and not (name.startswith("data/weights/") and not name.endswith(".json"))
        and name != ".data/serialization_id"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as out:
        for name in kept_names:
            _add(out, f"{path.stem}/{name}", entries[name])
    print(f"{path}: {path.stat().st_size:,} bytes, {len(model['graph_module']['graph']['nodes'])} nodes")


_SAFETENSORS_DTYPES = {
    torch.bool: "BOOL", torch.uint8: "U8", torch.int8: "I8", torch.int16: "I16", torch.int32: "I32", torch.int64: "I64",
    torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32", torch.float64: "F64",
}  # fmt: skip


def save_tensors(tensors: dict[str, torch.Tensor], path: str | Path, metadata: dict[str, str] | None = None) -> None:
    """Writes a safetensors file whose bytes repeat: the `safetensors` package shuffles the metadata."""
    header: dict[str, object] = {"__metadata__": dict(sorted((metadata or {}).items()))}
    payloads, offset = [], 0
    # Wide elements first: every tensor stays aligned to its element.
    for name, tensor in sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0])):
        payload = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        header[name] = {
            "dtype": _SAFETENSORS_DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + len(payload)],
        }
        payloads.append(payload)
        offset += len(payload)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    Path(path).write_bytes(len(text).to_bytes(8, "little") + text + b"".join(payloads))


def _json_nodes(value):
    """Every node of a serialised graph, those of sub-graphs included."""
    if isinstance(value, dict):
        if "target" in value and "metadata" in value:
            yield value
        for child in value.values():
            yield from _json_nodes(child)
    elif isinstance(value, list):
        for child in value:
            yield from _json_nodes(child)
