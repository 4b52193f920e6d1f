"""How much hypothesis tries, by the environment variable REFODE_PROFILE, and which tests wait for the long run."""

import os

import pytest
from hypothesis import HealthCheck, Phase, settings

# No verdict may hang on the clock, or a run on a busy machine would differ from one on an idle one.
CLOCKLESS = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
PROFILE = os.environ.get("REFODE_PROFILE", "default")

settings.register_profile("default", max_examples=50, derandomize=True, **CLOCKLESS)
settings.register_profile("long", max_examples=1000, **CLOCKLESS)
settings.register_profile(
    "mutation", max_examples=10, derandomize=True, phases=[Phase.explicit, Phase.generate], **CLOCKLESS
)
settings.load_profile(PROFILE)


def pytest_report_header() -> str:
    return f"REFODE_PROFILE: {PROFILE}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Outside the long profile deselect what is marked slow; pytest prints how many those are."""
    if PROFILE == "long":
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if item not in slow]
