"""The quantizations of GGUF: their numbers, their names in files, and which is near which."""

import re
from collections.abc import Iterable, Mapping

DEFAULT = "Q4_K_M"

# general.file_type, by llama.h's enum llama_ftype.
FILE_TYPES: Mapping[int, str] = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    19: "IQ2_XXS",
    20: "IQ2_XS",
    21: "Q2_K_S",
    22: "IQ3_XS",
    23: "IQ3_XXS",
    24: "IQ1_S",
    25: "IQ4_NL",
    26: "IQ3_S",
    27: "IQ3_M",
    28: "IQ2_S",
    29: "IQ2_M",
    30: "IQ4_XS",
    31: "IQ1_M",
    32: "BF16",
    36: "TQ1_0",
    37: "TQ2_0",
    38: "MXFP4",
}

# By ggml.h's enum ggml_type: name, elements of a block, bytes of a block.
TENSOR_TYPES: Mapping[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
}

# Bits for each weight of a whole model, as llama.cpp's quantize measures them for an 8B one.
BITS: Mapping[str, float] = {
    "IQ1_S": 2.0,
    "IQ1_M": 2.2,
    "TQ1_0": 1.7,
    "TQ2_0": 2.1,
    "IQ2_XXS": 2.4,
    "IQ2_XS": 2.6,
    "IQ2_S": 2.7,
    "IQ2_M": 2.9,
    "Q2_K_S": 3.0,
    "Q2_K": 3.2,
    "Q2_K_L": 3.3,
    "IQ3_XXS": 3.3,
    "IQ3_XS": 3.5,
    "Q3_K_S": 3.6,
    "IQ3_S": 3.7,
    "IQ3_M": 3.8,
    "Q3_K_M": 4.0,
    "Q3_K_L": 4.3,
    "Q3_K_XL": 4.4,
    "IQ4_XS": 4.46,
    "MXFP4": 4.4,
    "Q4_0": 4.66,
    "IQ4_NL": 4.68,
    "Q4_K_S": 4.67,
    "Q4_K_M": 4.89,
    "Q4_K_L": 5.0,
    "Q4_K_XL": 5.0,
    "Q4_1": 5.1,
    "Q5_0": 5.55,
    "Q5_K_S": 5.57,
    "Q5_K_M": 5.7,
    "Q5_K_L": 5.8,
    "Q5_K_XL": 5.8,
    "Q5_1": 6.0,
    "Q6_K": 6.56,
    "Q6_K_L": 6.7,
    "Q6_K_XL": 6.7,
    "Q8_0": 8.5,
    "Q8_K_XL": 9.0,
    "F16": 16.0,
    "BF16": 16.0,
    "F32": 32.0,
}
SYNONYMS = {
    "FP16": "F16",
    "FP32": "F32",
    "Q2": "Q2_K",
    "Q3": "Q3_K_M",
    "Q4": "Q4_K_M",
    "Q5": "Q5_K_M",
    "Q3_K": "Q3_K_M",
    "Q4_K": "Q4_K_M",
    "Q5_K": "Q5_K_M",
    "Q6": "Q6_K",
    "Q8": "Q8_0",
    "MXFP4_MOE": "MXFP4",
}
SLOWER = 0.3

_NAME = re.compile(r"(?<![a-z0-9])(b?f16|f32|fp16|fp32|(?:iq|tq|q)\d[a-z0-9_]*|mxfp4\w*)", re.I)
_PART = re.compile(r"-\d{5}-of-\d{5}$")


def named_in(file: str) -> str:
    """The quantization that a file's name ends with, as `Q4_K_M`; empty when it names none."""
    stem = _PART.sub("", file.rsplit("/", 1)[-1].removesuffix(".gguf"))
    found = [normal(name) for name in _NAME.findall(stem)]
    return next((name for name in reversed(found) if name in BITS), "")


def normal(name: str) -> str:
    """A quantization's name as llama.cpp writes it."""
    upper = name.upper().replace("-", "_").strip("_")
    return SYNONYMS.get(upper, upper)


def nearest(wanted: str, offered: Iterable[str]) -> str | None:
    """The one of `offered` whose size is nearest; None when none has a name that is known.

    The i-quants count as a little further off, since they are slow without a GPU.
    """
    bits = BITS.get(wanted, BITS[DEFAULT])

    def distance(name: str) -> tuple[float, float]:
        slower = SLOWER if name.startswith(("I", "T")) != wanted.startswith(("I", "T")) else 0.0
        return abs(BITS[name] - bits) + slower, BITS[name]

    return min((name for name in offered if name in BITS), key=distance, default=None)
