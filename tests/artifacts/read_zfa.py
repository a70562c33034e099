"""Reads a .zfa artifact from docs/artifact-format.md alone: standard library only, shares nothing with zeroforge.

    python3 read_zfa.py FILE

Checks every hash and rule of the page and prints the manifest's outline as JSON; exits with 1 and a reason otherwise.
"""

import json
import struct
import sys

# ---- BLAKE3 (O'Connor, Aumasson, Neves, Wilcox-O'Hearn, 2020), unkeyed, 32 bytes ---------------------------

IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
CHUNK_START, CHUNK_END, PARENT, ROOT = 1, 2, 4, 8
MASK = 0xFFFFFFFF


def compress(cv, block, counter, length, flags):
    v = [*cv, *IV[:4], counter & MASK, counter >> 32, length, flags]
    m = list(struct.unpack("<16I", block))

    def g(a, b, c, d, x, y):
        v[a] = (v[a] + v[b] + x) & MASK
        v[d] = ((v[d] ^ v[a]) >> 16 | (v[d] ^ v[a]) << 16) & MASK
        v[c] = (v[c] + v[d]) & MASK
        v[b] = ((v[b] ^ v[c]) >> 12 | (v[b] ^ v[c]) << 20) & MASK
        v[a] = (v[a] + v[b] + y) & MASK
        v[d] = ((v[d] ^ v[a]) >> 8 | (v[d] ^ v[a]) << 24) & MASK
        v[c] = (v[c] + v[d]) & MASK
        v[b] = ((v[b] ^ v[c]) >> 7 | (v[b] ^ v[c]) << 25) & MASK

    for _ in range(7):
        for i in range(4):
            g(i, 4 + i, 8 + i, 12 + i, m[2 * i], m[2 * i + 1])
        for i in range(4):
            g(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4, m[8 + 2 * i], m[9 + 2 * i])
        m = [m[i] for i in PERMUTATION]
    return [v[i] ^ v[i + 8] for i in range(8)]


def chunk(data, counter, root):
    cv, blocks = list(IV), [data[i : i + 64] for i in range(0, len(data), 64)] or [b""]
    for i, block in enumerate(blocks):
        flags = (CHUNK_START if i == 0 else 0) | ((CHUNK_END | root) if i == len(blocks) - 1 else 0)
        cv = compress(cv, block.ljust(64, b"\0"), counter, len(block), flags)
    return cv


def tree(data, counter, root):
    if len(data) <= 1024:
        return chunk(data, counter, root)
    left = 1024
    while left * 2 < len(data):
        left *= 2
    children = tree(data[:left], counter, 0) + tree(data[left:], counter + left // 1024, 0)
    return compress(IV, struct.pack("<16I", *children), 0, 64, PARENT | root)


def blake3(data):
    return struct.pack("<8I", *tree(data, 0, ROOT))


# ---- the container ----------------------------------------------------------------------------------------

KINDS = {1: "manifest", 2: "program", 3: "elf", 4: "cubin", 5: "ptx", 6: "weights", 7: "kernels"}
SIZES = {"bool": 1, "u8": 1, "i8": 1, "i16": 2, "i32": 4, "i64": 8, "f16": 2, "bf16": 2, "f32": 4, "f64": 8}


class Invalid(Exception):
    pass


def need(condition, reason):
    if not condition:
        raise Invalid(reason)


def stored_bytes(weight):
    shape, layout = weight["shape"], weight["layout"]
    if layout == "row_major":
        count = 1
        for n in shape:
            count *= n
        return count * SIZES[weight["dtype"]]
    panels = layout["panels"]
    rows, columns = shape
    k, n = (columns, rows) if panels["transposed"] else (rows, columns)
    return -(-n // panels["nr"]) * panels["nr"] * k * SIZES[weight["dtype"]]


ELEMENTS = {"u8": 1, "u16": 2, "f16": 2, "bf16": 2, "u32": 4, "i32": 4, "f32": 4, "tf32": 4, "u64": 8, "i64": 8, "f64": 8}
SWIZZLES = {"none": 256, "bytes32": 32, "bytes64": 64, "bytes128": 128}


def check_tensor_map(param, kernel, program):
    value = param["value"]["tensor_map"]
    rank, row = len(value["dims"]), value["box"][0] * ELEMENTS[value["data_type"]]
    need(param["at"] % 64 == 0 and param["at"] + 128 <= kernel["param_bytes"], "a tensor map's place")
    need(value["buffer"] < len(program["buffers"]), "a tensor map's buffer")
    need(1 <= rank <= 5 and len(value["strides"]) == rank - 1, "a tensor map's rank")
    need(len(value["box"]) == len(value["element_strides"]) == rank, "a tensor map's rank")
    need(all(1 <= n <= 256 for n in value["box"]), "a tensor map's box")
    need(all(1 <= n <= 8 for n in value["element_strides"]), "a tensor map's element strides")
    need(row % 16 == 0 and (value["swizzle"] == "none" or row <= SWIZZLES[value["swizzle"]]), "a tensor map's rows")
    need(value["l2_promotion"] in {"none", "bytes64", "bytes128", "bytes256"}, "a tensor map's promotion")
    # Symbolic ones have coefficients that say it; a reader in Python leaves them to a runtime.
    numbers = [n for n in [value["offset"], *value["strides"]] if isinstance(n, int)]
    need(all(n >= 0 and n % 16 == 0 for n in numbers), "a tensor map's alignment")


def read(file):
    need(len(file) >= 128, "too short")
    need(file[:8] == b"ZFORGE\r\n", "wrong magic")
    major, minor, count, length = struct.unpack_from("<HHIQ", file, 8)
    need(major == 1, f"format {major}.{minor}")
    root, (at, size) = file[24:56], struct.unpack_from("<QQ", file, 56)
    need(1 <= count <= 65536 and 128 + 64 * count <= length <= len(file), "lengths do not fit")
    need(not any(file[72:128]), "reserved bytes are not zero")
    table = file[128 : 128 + 64 * count]
    need(blake3(file[:24] + bytes(104) + table) == root, "root hash")
    need((at, size) == (0, 0) or (at == length and at + size == len(file)), "signature block")
    sections, end = [], 128 + 64 * count
    for i in range(count):
        kind, zero, offset, size_, digest, tail = struct.unpack_from("<IIQQ32sQ", table, 64 * i)
        need(zero == 0 and tail == 0, f"section {i}: reserved bytes")
        need(offset % 4096 == 0 and end <= offset and offset + size_ <= length, f"section {i}: place")
        end = offset + size_
        contents = file[offset:end]
        need(kind == 6 or blake3(contents) == digest, f"section {i}: hash")
        sections.append((KINDS.get(kind, "unknown"), contents))
    need(sections[0][0] == "manifest", "no manifest")
    manifest = json.loads(sections[0][1])
    weights = next((s[1] for s in sections if s[0] == "weights"), b"")
    for w in manifest["weights"]:
        need(stored_bytes(w) == w["bytes"], f"weight {w['name']}: size")
        if "embedded" in w["storage"]:
            place = w["storage"]["embedded"]
            data = weights[place["offset"] : place["offset"] + w["bytes"]]
            need(place["offset"] % 256 == 0 and len(data) == w["bytes"], f"weight {w['name']}: place")
            need(blake3(data).hex() == place["hash"], f"weight {w['name']}: hash")
    outline = {"name": manifest["name"], "weights": [w["name"] for w in manifest["weights"]], "targets": []}
    for target in manifest["targets"]:
        kind, text = sections[target["program"]]
        need(kind == "program", "a target without program")
        program = json.loads(text)
        need(program["target"] == target["target"], "program of another target")
        for kernel in program["kernels"]:
            module = target["modules"][kernel["module"]]
            index = module["elf"] if "elf" in module else module["cuda"]["cubin"]
            need(sections[index][1][:4] == b"\x7fELF", "code is no ELF")
            need(kernel["entry"].encode() in sections[index][1], f"no entry {kernel['entry']}")
        if "kernels" in target:
            kind, text = sections[target["kernels"]]
            need(kind == "kernels" and len(text) <= 64 << 20, "a list of kernels of another kind")
            listed = json.loads(text)
            need(listed["version"] in (1, 2) and len(listed["kernels"]) == len(program["kernels"]), "list of kernels")
            for spec in listed["kernels"]:
                need(len(spec) == 1 and set(spec) < {"loop", "gemm", "attention"}, "an unknown kind of kernel")
            steps = [a["step"] for a in listed.get("arguments", [])]
            need(steps == sorted(set(steps)) and all(s < len(program["steps"]) for s in steps), "arguments")
        for step in program["steps"]:
            kernel = program["kernels"][step["kernel"]]
            need(1 <= kernel.get("cluster", 1) <= 8, "clusters")
            need("blocks_per_sm" not in kernel or step["grid"][1:] == [1, 1], "tiles of a persistent kernel")
            for param in step["params"]:
                if "tensor_map" in param["value"]:
                    check_tensor_map(param, kernel, program)
        ports = {p["name"]: p["shape"] for p in program["inputs"] + program["outputs"]}
        outline["targets"].append({"target": target["target"], "ports": ports, "steps": len(program["steps"])})
    outline["signed"] = size > 0
    return outline


def main():
    with open(sys.argv[1], "rb") as f:
        file = f.read()
    try:
        print(json.dumps(read(file), sort_keys=True))
    except (Invalid, KeyError, IndexError, ValueError) as e:
        sys.exit(f"{sys.argv[1]}: {type(e).__name__}: {e}")


if __name__ == "__main__":
    main()
