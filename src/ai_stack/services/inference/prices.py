"""What models cost, from a file; a model that is not named there costs nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson

from ai_stack.errors import SettingsError
from ai_stack.models.inference import Usage

FORM = '{"model": {"prompt": 1, "completion": 2}}'


@dataclass(frozen=True, slots=True)
class Price:
    """What a million tokens cost."""

    prompt: float = 0.0
    completion: float = 0.0

    def of(self, used: Usage) -> float:
        return (used.prompt * self.prompt + used.completion * self.completion) / 1e6


def read_prices(file: Path | None) -> Mapping[str, Price]:
    """The prices by model; SettingsError for a file that is none of prices."""
    if file is None:
        return {}
    try:
        told = orjson.loads(file.read_bytes())
        return {model: _price(price) for model, price in told.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise SettingsError(
            f"AI_STACK_INFERENCE_PRICES: {file} cannot be read as {FORM}."
        ) from error


def _price(told: Mapping[str, float]) -> Price:
    price = Price(**told)
    if not min(price.prompt, price.completion) >= 0:
        raise ValueError
    return price
